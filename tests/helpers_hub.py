"""Checkpoints of transformers, tiny and random, of every architecture that is read, and the same models of ours."""

import warnings

import helpers_bert
import torch
from helpers_bert import batch, their_outputs
from helpers_models import nudged
from safetensors.torch import load_file
from transformers import (
    ArceeConfig,
    ArceeForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

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

ROTARY_SIZES = {"vocab_size": 11, "max_position_embeddings": 64, "hidden_size": 12, "num_attention_heads": 3}
ROTARY_SIZES |= {"num_hidden_layers": 2, "intermediate_size": 20, "eos_token_id": 10, "bos_token_id": 1}
ROTARY_OURS = {"vocab_size": 11, "max_length": 64, "d_model": 12, "num_heads": 3, "num_layers": 2, "d_ff": 20}
ROTARY_OURS |= {"positions": "rotary", "norm": "rmsnorm", "activation": "swiglu", "tie_output": False, "bias": False}
ROTARY_OURS |= {"dropout": 0.0, "norm_eps": 1e-6, "eos_id": 10, "bos_id": 1}
LINEAR = {"rope_type": "linear", "factor": 2.5}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 24}
ROTARY = {
    "Llama": (LlamaConfig, {}, {}),
    "Llama grouped, tied, of scaled positions": (
        LlamaConfig,
        {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 4, "attention_bias": True}
        | {"tie_word_embeddings": True, "rope_parameters": {"rope_theta": 100.0, **LLAMA3}, "rms_norm_eps": 0.1},
        {"num_heads": 6, "num_kv_heads": 2, "head_dim": 4, "attention_bias": True}
        | {"tie_output": True, "rope_theta": 100.0, "rope_scaling": LLAMA3, "norm_eps": 0.1},
    ),
    "Llama multi-query with biases": (
        LlamaConfig,
        {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True, "eos_token_id": [10, 3]}
        | {"rope_parameters": {"rope_theta": 10000.0, **LINEAR}, "attention_dropout": 0.5},
        {"num_kv_heads": 1, "bias": True, "stop_ids": (3,), "rope_scaling": LINEAR, "attention_dropout": 0.5},
    ),
    "Qwen3": (
        Qwen3Config,
        {
            "num_attention_heads": 5,
            "num_key_value_heads": 1,
            "head_dim": 6,
            "attention_bias": True,
            "rms_norm_eps": 0.1,
        },
        {"num_heads": 5, "num_kv_heads": 1, "head_dim": 6, "attention_bias": True, "norm_eps": 0.1, "qk_norm": True},
    ),
    "Arcee": (
        ArceeConfig,
        {"mlp_bias": True, "rms_norm_eps": 1e-6},
        {"activation": "relu_squared", "bias": True, "attention_bias": False},
    ),
    "Mistral": (
        MistralConfig,
        {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6, "sliding_window": 3},
        {"num_heads": 4, "num_kv_heads": 2, "head_dim": 6, "sliding_window": 3},
    ),
}
CAUSAL = (*GPT2, *ROTARY)
CASES = (*helpers_bert.CASES, *CAUSAL)
_CLASSES = {
    LlamaConfig: LlamaForCausalLM,
    Qwen3Config: Qwen3ForCausalLM,
    ArceeConfig: ArceeForCausalLM,
    MistralConfig: MistralForCausalLM,
}


def class_of(case):
    if case in ROTARY:
        return _CLASSES[ROTARY[case][0]]
    return GPT2LMHeadModel if case in GPT2 else helpers_bert.CASES[case][0]


def theirs_of(case, **changes):
    """Random, and no bias is 0 and no norm 1: large enough for activations to differ."""
    if case in ROTARY:
        config, settings, _ = ROTARY[case]
        return nudged(_CLASSES[config](config(**ROTARY_SIZES | settings | changes)), 0.4).eval()
    if case in GPT2:
        return nudged(GPT2LMHeadModel(GPT2Config(**SIZES | GPT2[case][0] | changes)), 0.4).eval()
    return helpers_bert.theirs_of(case, **changes)


def ours_of(case, **changes):
    if case in CAUSAL:
        fields = ROTARY_OURS | ROTARY[case][2] if case in ROTARY else OURS | GPT2[case][1]
        return nudged(GPT(GPTConfig(**fields | changes)), 0.4).eval()
    return helpers_bert.ours_of(case, **changes)


def read_quietly(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return minitransformer.load(folder)


def assert_same_gradients_and_files(ours, theirs, folder):
    """Gradients agree by their names, and an export to `folder`/ours has the tensors of `folder`/theirs."""
    names = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, gradient in helpers_bert.gradients_by_their_names(ours, folder / "gradients").items():
        torch.testing.assert_close(gradient, names[name], rtol=1e-4, atol=1e-4)
    ours.export(folder / "ours")
    mine, other = (load_file(folder / name / "model.safetensors") for name in ("ours", "theirs"))
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


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
