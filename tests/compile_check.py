"""Compile and export every piece and model, without the type checks of the test suite, which get in dynamo's way.

Prints one line a case; exits with 1 if one of them failed. Run by test_compile.py.
"""

import sys
from collections.abc import Iterator
from typing import Any

import torch
from helpers_models import RNNS, TRANSFORMERS, fresh_gpt, tiny_rnn
from helpers_pieces import scheme
from torch import Tensor, nn

from minitransformer import (
    BERT,
    BERTConfig,
    DecoderBlock,
    EncoderBlock,
    MultiHeadAttention,
    SequenceClassifier,
    Stack,
    padding_mask,
)
from minitransformer.models.pooling import POOLINGS

D_MODEL, HEADS = 8, 4
BERTS = {
    "BERT": {},
    "RoBERTa": {"position_offset": 2, "num_segments": 1, "pooler": False, "sentence_head": None},
    "ALBERT": {"d_embedding": 6, "num_hidden_groups": 1, "activation": "gelu_tanh", "sentence_head": "sop"},
}
MODERN = {"norm": "rmsnorm", "activation": "relu_squared", "bias": False, "qk_norm": True, "logit_softcap": 9.0}
Case = tuple[str, nn.Module, tuple[Tensor, ...], dict[str, Any]]


def cases() -> Iterator[Case]:
    ids = torch.tensor([[4, 5], [6, 1]]), torch.tensor([[2, 7], [2, 8]]), torch.tensor([[True, True], [True, False]])
    documents = {"document_ids": torch.tensor([[0, 1], [1, 1]])}
    for pooling in POOLINGS:
        yield (
            f"SequenceClassifier {pooling}",
            SequenceClassifier(bert(), 3, pooling=pooling),
            ids[:1],
            {"valid": ids[2]},
        )
    yield "SequenceClassifier of an RNN", SequenceClassifier(tiny_rnn(), 3, pooling="last"), ids[:1], {"valid": ids[2]}
    for param in (*TRANSFORMERS[::3], *RNNS[::4], RNNS[-3]):
        yield param.id, param.values[0](), ids, {}
    for positions in ("learned", "rotary", "alibi"):
        yield f"GPT {positions}", fresh_gpt(positions), (ids[0], ids[2]), {}
        yield f"GPT {positions}, packed", fresh_gpt(positions), ids[:1], documents
    long = torch.ones(1, 20, dtype=torch.long), {"document_ids": torch.arange(20)[None] // 5}
    yield "GPT, packed beyond its length", fresh_gpt(), long[:1], long[1]
    yield "GPT modern", fresh_gpt("rotary", 2, **MODERN), (ids[0],), {}
    for dtype in (torch.float32, torch.bfloat16):  # with ways of their own for many tokens, and for bfloat16
        gpt = fresh_gpt(max_length=80, d_model=64).to(dtype)
        yield f"GPT of many tokens, {dtype}", gpt, (torch.randint(9, (2, 80)),), {}
    for name, options in BERTS.items():
        yield name, bert(**options), ids[:1], {"valid": ids[2]}
        yield f"{name}, packed", bert(**options), ids[:1], documents
        yield f"{name}, segments given", bert(**options), ids[:1], {"segment_ids": torch.zeros_like(ids[0])}

    states, memory = torch.randn(2, 4, D_MODEL), torch.randn(2, 5, D_MODEL)
    mask = padding_mask(torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool))
    memory_mask = padding_mask(torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]], dtype=torch.bool))
    yield "self-attention", MultiHeadAttention(D_MODEL, HEADS), (states,), {"mask": mask, "causal": True}
    for name in ("none", "rotary", "alibi", "relative"):
        # Grouped heads, and places given to one block and counted by the other, so that all of it is covered.
        options = {"positions": scheme(name, HEADS, D_MODEL // HEADS), "num_kv_heads": 2}
        encoder, decoder = EncoderBlock(D_MODEL, HEADS, 6, **options), DecoderBlock(D_MODEL, HEADS, 6, **options)
        yield f"encoder block {name}", encoder, (states,), {"mask": mask, "position_ids": torch.arange(4)[None]}
        yield f"decoder block {name}", decoder, (states, memory), {"mask": mask, "memory_mask": memory_mask}
    options = {"causal": True, "pre_norm": True, "norm": "rmsnorm", "activation": "swiglu", "bias": False}
    shared = EncoderBlock(D_MODEL, HEADS, 6, **options)
    yield "causal stack of one shared block", Stack([shared] * 2, nn.RMSNorm(D_MODEL)), (states,), {}


def bert(**options: Any) -> BERT:
    small = {"vocab_size": 9, "d_model": D_MODEL, "num_heads": HEADS, "num_layers": 2, "max_length": 3}
    return BERT(BERTConfig(**{**small, "cls_id": 1, "sep_id": 2, "mask_id": 3, **options}))


def check(module: nn.Module, args: tuple[Tensor, ...], options: dict[str, Any]) -> None:
    expected = module.eval()(*args, **options)
    compiled = torch.compile(module, fullgraph=True, backend="eager")(*args, **options)
    tolerance = 1e-5 if expected.dtype == torch.float32 else 0.1
    torch.testing.assert_close(compiled, expected, rtol=0, atol=tolerance)
    exported = torch.export.export(module, args, options).module()(*args, **options)
    torch.testing.assert_close(exported, expected, rtol=0, atol=tolerance)


def main() -> int:
    torch.manual_seed(0)
    failed = False
    for name, module, args, options in cases():
        torch.compiler.reset()
        try:
            check(module, args, options)
        except Exception as error:
            failed = True
            print(f"FAILED {name}: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        else:
            print(f"ok {name}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
