"""Weights of 8 bits, for decoding on a CPU.

A step of decoding reads every weight, and a weight of 8 bits is a fourth of the bytes of float32. Each row of a weight
has one scale: W ≈ diag(scale) C, with whole numbers C from -127 to 127 and scale = max |row| / 127.
"""

from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from minitransformer.errors import InputError

M = TypeVar("M", bound=nn.Module)

_MULTIPLE = 32
"""torch's kernel reads beyond the end of a row of another length."""
_MOST_ROWS = 64
"""For more, as in a long prompt, a product in bfloat16 is faster."""


class Int8Linear(nn.Module):
    """A linear layer with weights of 8 bits. Products are in bfloat16, the outputs in the type of the inputs."""

    codes: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        with torch.no_grad():
            weight = layer.weight.float()
            largest = weight.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
            scale = (largest / 127).bfloat16()
            codes = (weight / scale).round().clamp(-127, 127).to(torch.int8)
        self.register_buffer("codes", F.pad(codes, (0, -self.in_features % _MULTIPLE)).contiguous())
        self.register_buffer("scale", scale[:, 0].contiguous())
        self.bias = layer.bias
        self.train(layer.training)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Raises `InputError` on a GPU, and where a gradient is wanted."""
        if self.codes.device.type != "cpu":
            raise InputError(f"weights of 8 bits are on {self.codes.device}: int8 is for a CPU, use bf16 on a GPU")
        if x.requires_grad:
            raise InputError("weights of 8 bits have no gradients: train in fp32 or bf16, and use int8 to decode")
        rows = x.reshape(-1, self.in_features).bfloat16()
        if padding := -self.in_features % _MULTIPLE:
            rows = F.pad(rows, (0, padding))
        if len(rows) <= _MOST_ROWS:
            outputs = torch._weight_int8pack_mm(rows, self.codes, self.scale).to(x.dtype)
        else:
            outputs = (F.linear(rows, self.codes.bfloat16()).float() * self.scale).to(x.dtype)
        outputs = outputs if self.bias is None else outputs.add_(self.bias)
        return outputs.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def quantize(model: M) -> M:
    """The model with an `Int8Linear` in the place of each linear layer; embeddings, norms and biases stay as they are.

    Raises `InputError` for a recurrent model, whose weights are in its cells, and for a model on a GPU.
    """
    kind = type(model).__name__
    if any(p.device.type != "cpu" for p in model.parameters()):
        raise InputError(f"this {kind} is on a GPU: int8 is for a CPU, use bf16 on a GPU")
    if any(hasattr(module, "weight_hh") for module in model.modules()):
        raise InputError(f"int8 is for Transformers: this {kind} is recurrent, use fp32 or bf16")
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                setattr(module, name, Int8Linear(child))
    return model
