"""Compile and export every piece and model, without the type checks of the test suite, which get in dynamo's way.

Prints one line a case; exits with 1 if one of them failed. Run by test_compile.py.
"""

import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer import (
    BERT,
    GPT,
    ALiBi,
    BERTConfig,
    DecoderBlock,
    EncoderBlock,
    GPTConfig,
    MultiHeadAttention,
    RelativeBias,
    RNNConfig,
    RNNSeq2Seq,
    Rotary,
    SequenceClassifier,
    Stack,
    Transformer,
    TransformerConfig,
    padding_mask,
)
from minitransformer.models.pooling import POOLINGS
from minitransformer.models.rnn import ATTENTIONS

D_MODEL, HEADS = 8, 4
SCHEMES = {
    "none": lambda: None,
    "rotary": lambda: Rotary(D_MODEL // HEADS),
    "alibi": lambda: ALiBi(HEADS),
    "relative": lambda: RelativeBias(HEADS, num_buckets=6, max_distance=5),
}
BERTS = {
    "BERT": {},
    "RoBERTa": {"position_offset": 2, "num_segments": 1, "pooler": False, "sentence_head": None},
    "ALBERT": {"d_embedding": 6, "num_hidden_groups": 1, "activation": "gelu_tanh", "sentence_head": "sop"},
}
Case = tuple[str, nn.Module, tuple[Tensor, ...], dict[str, Any]]


def cases() -> Iterator[Case]:
    states, memory = torch.randn(2, 4, D_MODEL), torch.randn(2, 5, D_MODEL)
    mask = padding_mask(torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool))
    memory_mask = padding_mask(torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]], dtype=torch.bool))
    yield "self-attention", MultiHeadAttention(D_MODEL, HEADS), (states,), {"mask": mask, "causal": True}
    for name, scheme in SCHEMES.items():
        # Grouped heads, and places given to one block and counted by the other, so that all of it is covered.
        options = {"positions": scheme(), "num_kv_heads": 2}
        encoder, decoder = EncoderBlock(D_MODEL, HEADS, 6, **options), DecoderBlock(D_MODEL, HEADS, 6, **options)
        yield f"encoder block {name}", encoder, (states,), {"mask": mask, "position_ids": torch.arange(4)[None]}
        yield f"decoder block {name}", decoder, (states, memory), {"mask": mask, "memory_mask": memory_mask}
    options = {"causal": True, "pre_norm": True, "norm": "rmsnorm", "activation": "swiglu", "bias": False}
    shared = EncoderBlock(D_MODEL, HEADS, 6, **options)
    yield "causal stack of one shared block", Stack([shared] * 2, nn.RMSNorm(D_MODEL)), (states,), {}

    ids = torch.tensor([[4, 5], [6, 1]]), torch.tensor([[2, 7], [2, 8]]), torch.tensor([[True, True], [True, False]])
    sizes = {"source_vocab_size": 9, "target_vocab_size": 9, "d_model": D_MODEL, "max_length": 3}
    for name, options in BERTS.items():
        config = small_bert(**options)
        yield name, BERT(config), ids[:1], {"valid": ids[2]}
        yield f"{name}, packed", BERT(config), ids[:1], {"document_ids": torch.tensor([[0, 1], [1, 1]])}
        yield f"{name}, segments given", BERT(config), ids[:1], {"segment_ids": torch.zeros_like(ids[0])}

    transformer = TransformerConfig(**sizes, num_heads=HEADS, d_ff=6, num_encoder_layers=1, num_decoder_layers=1)
    yield "Transformer", Transformer(transformer), ids, {}
    for positions in ("learned", "rotary", "alibi"):
        gpt = GPTConfig(9, 4, d_model=D_MODEL, num_heads=HEADS, num_layers=1, positions=positions, eos_id=0)
        yield f"GPT {positions}", GPT(gpt), (ids[0], ids[2]), {}
        yield f"GPT {positions}, packed", GPT(gpt), ids[:1], {"document_ids": torch.tensor([[0, 1], [1, 1]])}
    modern = {"norm": "rmsnorm", "activation": "relu_squared", "bias": False, "qk_norm": True, "logit_softcap": 9.0}
    gpt = GPTConfig(9, 4, d_model=D_MODEL, num_heads=HEADS, num_layers=1, positions="rotary", eos_id=0, **modern)
    yield "GPT modern", GPT(gpt), (ids[0],), {}
    long = torch.randint(9, (2, 80))
    for dtype in (torch.float32, torch.bfloat16):  # with ways of their own for many tokens, and for bfloat16
        gpt = GPTConfig(9, 80, d_model=64, num_heads=HEADS, num_layers=1, eos_id=0)
        yield f"GPT of many tokens, {dtype}", GPT(gpt).to(dtype), (long,), {}
    for name in ATTENTIONS:
        # The talk's attention in the talk's way: with padding left in.
        config = RNNConfig(**sizes, hidden_size=6, attention=name, masked=name != "location")
        yield f"RNNSeq2Seq {name}", RNNSeq2Seq(config), ids, {}
    lstm = RNNConfig(**sizes, hidden_size=6, cell="lstm", bidirectional=True, attention="general", input_feeding=True)
    yield "RNNSeq2Seq LSTM, both directions, input feeding", RNNSeq2Seq(lstm), ids, {}
    for name in POOLINGS:
        encoder = RNNSeq2Seq(lstm) if name == "last" else BERT(small_bert())
        yield f"SequenceClassifier {name}", SequenceClassifier(encoder, 3, pooling=name), ids[:1], {"valid": ids[2]}


def small_bert(**options: Any) -> BERTConfig:
    small = {"vocab_size": 9, "d_model": D_MODEL, "num_heads": HEADS, "num_layers": 2, "max_length": 3}
    return BERTConfig(**{**small, "cls_id": 1, "sep_id": 2, "mask_id": 3, **options})


def check(module: nn.Module, args: tuple[Tensor, ...], options: dict[str, Any]) -> None:
    expected = module.eval()(*args, **options)
    compiled = torch.compile(module, fullgraph=True, backend="eager")(*args, **options)
    tolerance = 1e-5 if expected.dtype == torch.float32 else 0.1
    torch.testing.assert_close(compiled, expected, rtol=0, atol=tolerance)
    exported = torch.export.export(module, args, options).module()(*args, **options)
    torch.testing.assert_close(exported, expected, rtol=0, atol=tolerance)


def main() -> int:
    torch.manual_seed(0)
    failed, seen = False, set()
    for name, module, args, options in cases():
        if "--one-of-each" in sys.argv and type(module) in seen:
            continue
        seen.add(type(module))
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
