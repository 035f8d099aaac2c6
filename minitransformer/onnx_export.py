"""Encoders and classifiers as ONNX files, for onnxruntime and other engines."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minitransformer.errors import InputError
from minitransformer.files import atomic

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""The names that engines know from exports of `transformers`; the third is for models with segments."""
MOST_BYTES = 2 * 1000**3
"""What the format holds in one file."""


class _WithTheirInputs(nn.Module):
    """A model whose mask is integers, 1 for a real token, as tokenizers of Hugging Face give it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Int[Tensor, "batch time"],
        attention_mask: Int[Tensor, "batch time"],
        token_type_ids: Int[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch *rest"]:
        segments = () if token_type_ids is None else (token_type_ids,)
        return self.model(input_ids, attention_mask != 0, *segments)


def write_onnx(model: nn.Module, path: str | Path, *, output: str, has_segments: bool) -> Path:
    """Write `model(ids, valid)`, or `model(ids, valid, segment_ids)` where it `has_segments`, as one file with its
    weights, in evaluation mode and for any batch and length. The model's own mode stays as it is.

    Raises `InputError` without the packages of the extra `onnx`, and for weights that are not float32 or too large.
    """
    try:
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError:
        raise InputError("to_onnx needs onnx and onnxscript: pip install 'minitransformer[onnx]'") from None
    path, parameters = Path(path), list(model.parameters())
    if other := {parameter.dtype for parameter in parameters} - {torch.float32}:
        raise InputError(f"the weights are {other.pop()}, which engines rarely compute in: export model.float()")
    if (size := sum(parameter.nbytes for parameter in parameters)) > MOST_BYTES:
        raise InputError(f"the weights take {size:,} bytes, and an ONNX file holds {MOST_BYTES:,}")
    names = INPUTS if has_segments else INPUTS[:2]
    # A copy of the modules, whose parameters are the same objects: `eval` is not for the caller's.
    shared = copy.deepcopy(model, {id(parameter): parameter for parameter in parameters})
    # A tensor each: of one in several places torch makes one input.
    examples = [torch.zeros(3, 2, dtype=torch.int64, device=parameters[0].device) for _ in names]
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _WithTheirInputs(shared).eval(),
            tuple(examples),
            dynamo=True,
            input_names=list(names),
            output_names=[output],
            dynamic_shapes=({0: "batch", 1: "sequence"},) * len(names),
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # where each comes from: paths of this machine, and most of a small file
    with atomic(path) as temporary:
        program.save(temporary)
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Without remarks on packages that no model here needs and on deprecations inside torch."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
