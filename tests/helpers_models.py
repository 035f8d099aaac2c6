"""Tiny models, awkward padding and slow plain ways to decode, for the tests of the models."""

import dataclasses
import functools
import itertools
from types import SimpleNamespace

import pytest
import torch

from minitransformer import GPT, GPTConfig, RNNConfig, RNNSeq2Seq, Transformer, TransformerConfig

SOURCE_VOCAB, TARGET_VOCAB = 11, 9
LAYOUTS = ("left", "scattered", "right")


def tiny_transformer(*, seed=0, **options):
    """In evaluation mode, with every parameter off its special value: no norm is 1 and no bias 0."""
    sizes = {"d_model": 16, "num_heads": 4, "d_ff": 24, "num_encoder_layers": 1, "num_decoder_layers": 2}
    vocabularies = {"source_vocab_size": SOURCE_VOCAB, "target_vocab_size": TARGET_VOCAB, "max_length": 16}
    torch.manual_seed(seed)
    return nudged(Transformer(TransformerConfig(**(vocabularies | sizes | options)))).eval()


def tiny_rnn(*, seed=0, **options):
    """As `tiny_transformer`: an additive attention whose v is 0 would attend to everything alike."""
    sizes = {"d_model": 6, "hidden_size": 8, "max_length": 16}
    torch.manual_seed(seed)
    return nudged(RNNSeq2Seq(RNNConfig(SOURCE_VOCAB, TARGET_VOCAB, **(sizes | options)))).eval()


@torch.no_grad()
def nudged(model, scale=0.3):
    for parameter in model.parameters():
        parameter += scale * torch.randn_like(parameter)
    return model


def _transformers():
    tyings = itertools.cycle(
        [
            ("tied", {}),
            ("untied", {"tie_output": False}),
            ("shared", {"share_embeddings": True, "source_vocab_size": TARGET_VOCAB}),
        ]
    )
    # Any two of these choices meet, not any three.
    for place, positions in enumerate(("sinusoidal", "learned", "rotary", "alibi", "relative", "none")):
        for heads, pre_norm in [((None, False), (2, True)), ((None, True), (2, False))][place % 2]:
            tying, options = next(tyings)
            name = [positions, "grouped" if heads else "full", "pre" if pre_norm else "post", tying]
            options = {"positions": positions, "num_kv_heads": heads, "pre_norm": pre_norm, **options}
            yield "-".join(name), tiny_transformer, options
    modern = {"norm": "rmsnorm", "bias": False, "activation": "swiglu", "num_kv_heads": 1, "scale_embedding": False}
    yield "rotary-multiquery-modern", tiny_transformer, {"positions": "rotary", "pre_norm": True, **modern}


def _rnns():
    kinds = [("location", False), ("additive", False), ("none", False)]
    kinds += itertools.product(("dot", "general", "concat"), (False, True))
    # Of a kind, any two of the other choices meet, not all three.
    others = [("gru", False, 1), ("gru", True, 2), ("lstm", False, 2), ("lstm", True, 1)]
    for (attention, fed), (cell, both, layers) in itertools.product(kinds, others):
        if attention == "dot" and both:
            continue  # its vectors would differ in size
        name = [attention, *["fed"] * fed, cell, "both" if both else "forward", str(layers)]
        options = {"attention": attention, "input_feeding": fed, "cell": cell, "bidirectional": both}
        yield "-".join(name), tiny_rnn, {**options, "num_layers": layers}
    for attention, fed in itertools.product(("local-m", "local-p"), (False, True)):
        options = {"attention": attention, "input_feeding": fed, "window": 1, "bidirectional": True}
        yield f"{attention}{'-fed' * fed}", tiny_rnn, options
    bahdanau = {"attention": "additive", "cell": "bahdanau-gru", "bidirectional": True, "num_layers": 2}
    yield "additive-bahdanau-gru-tied", tiny_rnn, {**bahdanau, "attention_dim": 5, "tie_output": True}
    for attention in ("location", "additive", "general"):
        yield f"{attention}-unmasked", tiny_rnn, {"attention": attention, "masked": False, "bidirectional": True}


def _parameters(cases):
    return [pytest.param(functools.partial(build, **options), id=name) for name, build, options in cases]


TRANSFORMERS, RNNS = _parameters(_transformers()), _parameters(_rnns())
EVERY_MODEL = TRANSFORMERS + RNNS
# One of each mechanism, where the combinations add nothing.
A_FEW_MODELS = _parameters(
    [
        ("sinusoidal", tiny_transformer, {}),
        ("relative", tiny_transformer, {"positions": "relative", "pre_norm": True, "num_kv_heads": 2}),
        ("location", tiny_rnn, {}),
        ("additive", tiny_rnn, {"attention": "additive", "bidirectional": True, "num_layers": 2}),
        ("concat-fed", tiny_rnn, {"attention": "concat", "input_feeding": True, "cell": "lstm"}),
    ]
)


def built(build):
    """One model for all tests that only look at it."""
    model = _built(build)
    torch.manual_seed(0)  # what is drawn next is the same whether or not the model was just made
    return model


_built = functools.cache(lambda build: build())


def sources(model, *lengths):
    """Rows of random source tokens, one of each length."""
    return [torch.randint(model.config.source_vocab_size, (length,)) for length in lengths]


def targets(model, batch, time):
    """Random target tokens (B, T) that start with BOS."""
    ids = torch.randint(model.config.target_vocab_size, (batch, time))
    ids[:, 0] = model.config.bos_id
    return ids


def layout(lengths, where="mixed"):
    """Which slots hold the real tokens of rows of these lengths; every row has padding. In "mixed" the first row
    has it at the left, the second here and there, the third at the right, and so on."""
    width = max(lengths) + 2
    orders = {
        "left": [*reversed(range(width))],
        "scattered": [*range(1, width, 2), *range(0, width, 2)],
        "right": [*range(width)],
    }
    valid = torch.zeros(len(lengths), width, dtype=torch.bool)
    for row, length in enumerate(lengths):
        valid[row, orders[LAYOUTS[row % 3] if where == "mixed" else where][:length]] = True
    return valid


def padded(model, rows, valid):
    """The rows in their slots, and random tokens in the slots of padding: nothing may depend on those."""
    c = model.config
    ids = torch.randint(c.vocab_size if isinstance(model, GPT) else c.source_vocab_size, valid.shape)
    ids[valid] = torch.cat(rows)
    return ids


def batch_of(model, source_lengths=(3, 5, 2), target_lengths=(4, 2, 6), *, source_rows=None):
    """A batch for `loss`; targets are BOS ... EOS of these lengths, then padding, and hold neither in between."""
    c = model.config
    source_rows = sources(model, *source_lengths) if source_rows is None else source_rows
    valid = layout([len(row) for row in source_rows])
    words = torch.tensor([i for i in range(c.target_vocab_size) if i not in (c.pad_id, c.bos_id, c.eos_id)])
    ids = torch.full((len(target_lengths), max(target_lengths)), c.pad_id)
    for row, length in zip(ids, target_lengths, strict=True):
        row[:length] = words[torch.randint(len(words), (length,))]
        row[0], row[length - 1] = c.bos_id, c.eos_id
    return {"source_ids": padded(model, source_rows, valid), "source_valid": valid, "target_ids": ids}


def rows_of(batch, *rows):
    return {name: tensor[list(rows)] for name, tensor in batch.items()}


def step_logits(model, inputs, valid, follow):
    """The logits of `start` and of one `step` for each column of `follow`."""
    logits, state = model.start(inputs, valid, max_new_tokens=follow.shape[1] + 1)
    collected = [logits]
    for ids in follow.unbind(dim=1):
        logits, state = model.step(ids, state)
        collected.append(logits)
    return torch.stack(collected, dim=1)


@torch.no_grad()
def likeliest(model, rows, steps):
    """The likeliest continuations of unpadded rows, past any EOS, recomputed for each token."""
    ids = torch.full((len(rows), 1), model.config.bos_id)
    for _ in range(steps):
        ids = torch.cat([ids, model(torch.stack(rows), ids)[:, -1:].argmax(dim=-1)], dim=1)
    return ids[:, 1:].tolist()


def until(eos_id, ids):
    return ids[: ids.index(eos_id) + 1] if eos_id in ids else ids


def choose_eos(model, texts):
    """Make that token the model's EOS which ends these texts at the most different lengths."""
    c = model.config
    choices = [i for i in range(c.target_vocab_size) if i not in (c.pad_id, c.bos_id)]
    telling = max(choices, key=lambda eos_id: len({len(until(eos_id, text)) for text in texts}))
    model.config = dataclasses.replace(c, eos_id=telling)


def gradients(model):
    """A copy of every gradient, zeros where there is none."""
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }


def assert_close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


EOS, PAD = 3, 7


class Scripted:
    """A model that returns given logits, and records the ids that it is given."""

    config = SimpleNamespace(eos_id=EOS, pad_id=PAD)

    def __init__(self, *rows):
        self.says = torch.nn.functional.one_hot(torch.tensor(rows), 8).float()
        self.heard = []

    def start(self, inputs, valid=None, *, max_new_tokens):
        self.started_with = inputs, valid, max_new_tokens
        return self.says[:, 0], 0

    def step(self, ids, state):
        self.heard.append(ids.tolist())
        return self.says[:, state + 1], state + 1


GPT_VOCAB, GPT_EOS = 13, 5


@functools.cache
def tiny_gpt(positions="learned", kv_heads=None, max_length=16, **options):
    """As `tiny_transformer`; one for all tests that only look at it."""
    return fresh_gpt(positions, kv_heads, max_length, **options)


def fresh_gpt(positions="learned", kv_heads=None, max_length=16, **options):
    torch.manual_seed(0)
    sizes = {"vocab_size": GPT_VOCAB, "d_model": 16, "num_heads": 4, "num_layers": 2, "eos_id": GPT_EOS}
    config = GPTConfig(**(sizes | options), positions=positions, num_kv_heads=kv_heads, max_length=max_length)
    return nudged(GPT(config)).eval()


def prompts(*lengths, seed=0):
    """Rows of random tokens for `tiny_gpt`, one of each length."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(GPT_VOCAB, (length,), generator=generator) for length in lengths]
