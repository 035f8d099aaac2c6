"""Initial weights are as each model's `init_weights` says."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers_models import assert_close, nudged

from minitransformer import (
    BERT,
    GPT,
    BERTConfig,
    GPTConfig,
    RNNConfig,
    RNNSeq2Seq,
    Transformer,
    TransformerConfig,
)


def constant(value, weight):
    assert (weight == value).all()


def normal(std, weight):
    """Mean and deviation within four standard errors, and a half."""
    count = weight.numel()
    assert weight.std().item() == pytest.approx(std, rel=4.5 / math.sqrt(2 * count))
    assert abs(weight.mean()) < 4 * std / math.sqrt(count)
    assert count < 1000 or weight.abs().max() > 2.5 * std


def xavier(weight):
    """Uniform within ±√(6 / (rows + columns))."""
    bound = math.sqrt(6 / sum(weight.shape))
    assert 0.97 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.06)
    assert abs(weight.mean()) < 4 * bound / math.sqrt(3 * weight.numel())


def xavier_or_zero(weight):
    """Matrices and vectors."""
    return xavier(weight) if weight.dim() == 2 else constant(0, weight)


def xavier_parts(sizes, weight):
    for part in weight.split(sizes):
        xavier(part)


def orthogonal_gates(count, weight):
    gates = weight.chunk(count)
    for gate in gates:
        assert_close(gate @ gate.T, torch.eye(len(gate)))
    assert (gates[0] - gates[1]).abs().max() > 0.1


ONES, ZEROS = {"norm.weight": partial(constant, 1)}, {"bias": partial(constant, 0)}
NORMAL = ONES | ZEROS | {"": partial(normal, 0.02)}
WRITES_TO_THE_RESIDUAL = dict.fromkeys(["project_out.weight", "contract.weight"], partial(normal, 0.02 / math.sqrt(16)))
GPT_SIZES = {"vocab_size": 500, "max_length": 64, "d_model": 96, "num_heads": 4, "num_layers": 8, "eos_id": 0}


def transformer(key_rows=64, **options):
    sizes = {"d_model": 64, "num_heads": 8, "d_ff": 96, "num_encoder_layers": 1, "num_decoder_layers": 1}
    config = TransformerConfig(80, 80, max_length=64, **sizes, **options)
    parts = {"project_in.weight": partial(xavier_parts, [64, key_rows, key_rows])}
    return Transformer, config, {"embedding.weight": partial(normal, 1 / 8)} | parts | ONES | ZEROS | {"": xavier}


def rnn(gates=3, **options):
    config = RNNConfig(90, 90, d_model=32, hidden_size=24, num_layers=2, bidirectional=True, **options)
    hidden = {"weight_hh": partial(orthogonal_gates, gates)}
    return RNNSeq2Seq, config, {"embedding.weight": partial(normal, 1)} | hidden | {"": xavier_or_zero}


CASES = {
    "gpt": (GPT, GPTConfig(**GPT_SIZES), WRITES_TO_THE_RESIDUAL | NORMAL),
    "bert": (BERT, BERTConfig.tiny(), NORMAL),
    "albert": (BERT, BERTConfig(**vars(BERTConfig.tiny()) | {"d_embedding": 64, "num_hidden_groups": 2}), NORMAL),
    "transformer": transformer(),
    "transformer, untied, grouped": transformer(16, tie_output=False, positions="learned", num_kv_heads=2),
    "transformer, shared": transformer(share_embeddings=True),
    "talk": rnn(attention="location"),
    "bahdanau-lstm": rnn(4, attention="additive", cell="lstm"),
    "luong": rnn(attention="general", input_feeding=True),
}


@pytest.mark.parametrize("case", CASES)
def test_initial_weights_are_as_init_weights_says(case):
    kind, config, checks = CASES[case]
    model, used = kind(config), set()
    if kind is BERT:  # whose init_weights may be called again
        nudged(model).init_weights()
    for name, parameter in model.named_parameters():
        ending = next(ending for ending in checks if name.endswith(ending))
        checks[ending](parameter.detach())
        used.add(ending)
    assert used == checks.keys()


@pytest.mark.parametrize("model", [GPT(GPTConfig.tiny()), BERT(replace(BERTConfig.tiny(), pre_norm=True))])
def test_with_zero_residual_every_pre_norm_block_starts_as_the_identity(model):
    model.eval().init_weights(zero_residual=True)
    states = torch.randn(2, 5, model.config.d_model)
    for block in (model.decoder if isinstance(model, GPT) else model.encoder).layers:
        assert torch.equal(block(states), states)
