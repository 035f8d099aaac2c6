"""Checkpoints of transformers, tiny and random, of every architecture that is read, and the same models of ours."""

import warnings

import helpers_bert
import torch
from helpers_bert import batch, their_outputs
from helpers_models import nudged
from transformers import GPT2Config, GPT2LMHeadModel

import minitransformer
from minitransformer import GPT, GPTConfig

SIZES = {"vocab_size": 11, "n_positions": 9, "n_embd": 12, "n_head": 3, "n_layer": 2, "eos_token_id": 10}
OURS = {"vocab_size": 11, "max_length": 9, "d_model": 12, "num_heads": 3, "num_layers": 2, "eos_id": 10}
GPT2 = {
    "GPT-2": ({}, {}),
    "GPT-2 untied": ({"tie_word_embeddings": False}, {"tie_output": False}),
    "GPT-2 of five heads": (
        {"n_embd": 10, "n_head": 5, "n_layer": 1, "activation_function": "gelu"},
        {"d_model": 10, "num_heads": 5, "num_kv_heads": 5, "num_layers": 1, "activation": "gelu"},
    ),
    "GPT-2 narrow": (
        {"n_inner": 7, "n_head": 1, "layer_norm_epsilon": 0.1, "activation_function": "relu", "attn_pdrop": 0.0},
        {"d_ff": 7, "num_heads": 1, "norm_eps": 0.1, "activation": "relu"},
    ),
    "GPT-2 with tanh": ({"activation_function": "gelu_pytorch_tanh"}, {}),
}
CASES = (*helpers_bert.CASES, *GPT2)


def class_of(case):
    return GPT2LMHeadModel if case in GPT2 else helpers_bert.CASES[case][0]


def theirs_of(case, **changes):
    """Random, and no bias is 0 and no norm 1: large enough for activations to differ."""
    if case in GPT2:
        return nudged(GPT2LMHeadModel(GPT2Config(**SIZES | GPT2[case][0] | changes)), 0.4).eval()
    return helpers_bert.theirs_of(case, **changes)


def ours_of(case, **changes):
    if case in GPT2:
        return nudged(GPT(GPTConfig(**OURS | GPT2[case][1] | changes)), 0.4).eval()
    return helpers_bert.ours_of(case, **changes)


def read_quietly(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return minitransformer.load(folder)


def assert_same_outputs(ours, theirs):
    """Returns our outputs and theirs."""
    if isinstance(ours, GPT):
        ids, valid = torch.randint(ours.config.vocab_size, (3, 7)), torch.arange(7) < torch.tensor([[7], [4], [1]])
        results = [(ours(ids, valid)[valid], theirs(ids, attention_mask=valid.long()).logits[valid])]
    else:
        ids, valid, segments = batch(ours)
        tokens, sentence = their_outputs(theirs, ids, valid, segments)
        states = ours(ids, valid, segments)
        results = [(ours.predict_tokens(states[valid]), tokens[valid])]
        if sentence is not None:
            results.append((ours.predict_sentence(states), sentence))
    for mine, other in results:
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)
    return results
