"""Configurations: which values are refused, with the value in the message, and the sizes of the presets."""

import ast
import dataclasses
import inspect
import itertools
import math
import re
import types
import typing
from dataclasses import replace

import pytest
import torch

from minitransformer import (
    BERT,
    GPT,
    BERTConfig,
    ClassifierConfig,
    EncoderBlock,
    GPTConfig,
    InputError,
    RNNConfig,
    RNNSeq2Seq,
    Transformer,
    TransformerConfig,
)
from minitransformer.activations import ACTIVATIONS, ActivationName
from minitransformer.models.pooling import POOLINGS, PoolingName
from minitransformer.models.rnn_cells import CELLS
from minitransformer.norms import NormName, make_norm

SMALL = {
    GPTConfig: {"vocab_size": 9, "eos_id": 3},
    BERTConfig: {"vocab_size": 13, "d_model": 12, "num_heads": 3, "cls_id": 2, "sep_id": 3, "mask_id": 4},
    TransformerConfig: {"source_vocab_size": 11, "target_vocab_size": 9, "d_model": 16, "num_heads": 4, "d_ff": 8},
    RNNConfig: {"source_vocab_size": 11, "target_vocab_size": 9, "d_model": 6, "hidden_size": 8},
}
OF_ANOTHER_TYPE = {int: (True, "8", 8.5, None), float: (True, "x", None), bool: ("no", 1, None), str: (1, None)}
OF_ANOTHER_TYPE |= {dict: (3, "linear"), tuple: (3, "linear"), typing.Literal: ("unheard of", 1, None)}
CONFIGURATIONS = (*SMALL, ClassifierConfig)


def alternatives(hint):
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def words(hint):
    """The words that a field accepts."""
    return [
        word
        for kind in alternatives(hint)
        if typing.get_origin(kind) is typing.Literal
        for word in typing.get_args(kind)
    ]


pytestmark = pytest.mark.usefixtures("as_users_run_it")


@pytest.mark.parametrize("kind", SMALL)
def test_a_value_of_another_type_is_refused_for_every_field(kind):
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        kinds = alternatives(hints[field.name])
        for value in OF_ANOTHER_TYPE[typing.get_origin(kinds[0]) or kinds[0]]:
            if not (value is None and (type(None) in kinds or field.default is None)):
                with pytest.raises(InputError, match=re.escape(f"{field.name}={value!r}")):
                    kind(**(SMALL[kind] | {field.name: value}))


@pytest.mark.parametrize("kind", SMALL)
def test_sizes_are_at_least_one_and_rates_between_zero_and_one(kind):
    sizes = [name for name in vars(kind(**SMALL[kind])) if re.search("^num_|^d_|_size$|_dim$|max_length|window", name)]
    assert len(sizes) > 3
    rates = [name for name in vars(kind(**SMALL[kind])) if re.search("dropout|smoothing|forcing", name)]
    wrong = [(name, value) for name in sizes for value in (0, -1)]
    for name, value in wrong + [(name, value) for name in rates for value in (-0.1, 1.01, float("nan"))]:
        with pytest.raises(InputError, match=re.escape(f"{name}={value}")):
            kind(**(SMALL[kind] | {name: value}))


IMPOSSIBLE = [
    (GPTConfig, {"rope_scaling": {"rope_type": "yarn"}}, "rope_type='yarn' must be one of linear, llama3"),
    (GPTConfig, {"rope_scaling": {"rope_type": "linear"}}, "takes factor; given are []"),
    (GPTConfig, {"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor=0 must be at least"),
    (GPTConfig, {"sliding_window": 4}, "sliding_window=4: learned positions start again"),
    (GPTConfig, {"stop_ids": (0, 11)}, "stop_ids=11 is no id in a vocabulary of 9"),
    (GPTConfig, {"d_model": 100, "num_heads": 3}, "d_model=100 is not divisible by num_heads=3"),
    (GPTConfig, {"num_heads": 4, "num_kv_heads": 3}, "num_heads=4 is not divisible by num_kv_heads=3"),
    (GPTConfig, {"positions": "relative"}, "positions='relative' must be one of learned, rotary, alibi, none"),
    (GPTConfig, {"logit_softcap": 0.0}, "logit_softcap=0.0 must be"),
    (GPTConfig, {"norm_eps": 0}, "norm_eps=0 must be at least 1e-30"),
    (GPTConfig, {"norm_eps": -1.0}, "norm_eps=-1.0 must be"),
    (GPTConfig, {"norm_eps": math.inf}, "norm_eps=inf must be"),
    (GPTConfig, {"logit_softcap": math.nan}, "logit_softcap=nan must be"),
    (GPTConfig, {"eos_id": 50256}, "eos_id=50256 is no id in a vocabulary of 9"),
    (GPTConfig, {"positions": "rotary", "d_model": 20, "num_heads": 4}, "leaves an odd number, 5"),
    (BERTConfig, {"num_heads": 5}, "d_model=12 is not divisible by num_heads=5"),
    (BERTConfig, {"num_hidden_groups": 5}, "num_layers=12 is not divisible by num_hidden_groups=5"),
    (BERTConfig, {"num_hidden_groups": 0}, "num_hidden_groups=0 must be at least 1"),
    (BERTConfig, {"d_embedding": 0}, "d_embedding=0 must be at least 1"),
    (BERTConfig, {"position_offset": -1}, "position_offset=-1 must be at least 0"),
    (BERTConfig, {"positions": "alibi"}, "positions='alibi' must be one of learned, rotary"),
    (BERTConfig, {"positions": "rotary", "num_heads": 4}, "leaves an odd number, 3"),
    (BERTConfig, {"sentence_head": "next"}, "sentence_head='next' must be one of nsp, sop"),
    (BERTConfig, {"pooler": False}, "sentence_head='nsp' reads the pooler"),
    (BERTConfig, {"mask_id": 13}, "mask_id=13 is no id in a vocabulary of 13"),
    (BERTConfig, {"mask_id": 3}, "mask_id=3 must differ"),
    (TransformerConfig, {"d_model": 100, "num_heads": 3}, "d_model=100 is not divisible by num_heads=3"),
    (TransformerConfig, {"num_heads": 4, "num_kv_heads": 3}, "num_heads=4 is not divisible by num_kv_heads=3"),
    (TransformerConfig, {"d_model": 15, "num_heads": 3}, "an odd number, 15"),
    (TransformerConfig, {"d_model": 12, "positions": "rotary"}, "an odd number, 3"),
    (TransformerConfig, {"positions": "rope"}, "positions='rope' must be one of sinusoidal, learned"),
    (TransformerConfig, {"norm": "batchnorm"}, "norm='batchnorm' must be one of layernorm, rmsnorm"),
    (TransformerConfig, {"activation": "tanh"}, "activation='tanh' must be one of relu"),
    (TransformerConfig, {"share_embeddings": True}, "source_vocab_size=11 and target_vocab_size=9"),
    (TransformerConfig, {"pad_id": 3}, "pad_id=3, bos_id=2, eos_id=3 must differ"),
    (TransformerConfig, {"bos_id": -1}, "bos_id=-1"),
    (RNNConfig, {"cell": "rnn"}, "cell='rnn' must be one of gru, lstm, bahdanau-gru"),
    (RNNConfig, {"attention": "luong"}, "attention='luong' must be one of location, additive"),
    (RNNConfig, {"input_feeding": True}, "attention='location'"),
    (RNNConfig, {"tie_output": True, "attention": "general"}, "d_model=6 out of states of hidden_size=8"),
    (RNNConfig, {"attention": "dot", "bidirectional": True}, "bidirectional=True has 2 x 8"),
    (RNNConfig, {"pad_id": 3}, "pad_id=3, bos_id=2, eos_id=3 must differ"),
    (RNNConfig, {"eos_id": 9}, "eos_id=9 is no id in a vocabulary of 9"),
]


@pytest.mark.parametrize(("kind", "changes", "message"), IMPOSSIBLE)
def test_a_configuration_that_cannot_be_is_refused_with_its_values(kind, changes, message):
    with pytest.raises(InputError, match=re.escape(message)):
        kind(**(SMALL[kind] | changes))


BODY = {"masked_head": False, "sentence_head": None, "pooler": True}  # as BERT, RoBERTa and ALBERT were counted


@pytest.mark.parametrize(
    ("kind", "config", "count"),
    [
        (GPT, GPTConfig.gpt2(), 124_439_808),
        (GPT, GPTConfig.gpt2_xl(), 1_557_611_200),
        (BERT, replace(BERTConfig.bert_base(), **BODY), 109_482_240),
        (BERT, replace(BERTConfig.bert_large(), **BODY), 335_141_888),
        (BERT, replace(BERTConfig.roberta_base(), **BODY), 124_645_632),
        (BERT, replace(BERTConfig.albert_base(), **BODY), 11_683_584),
        (BERT, replace(BERTConfig.albert_xxlarge(), **BODY), 222_595_584),
        (Transformer, TransformerConfig(37_000, 37_000, share_embeddings=True), 44_138_496 + 37_000 * 512),
        (Transformer, TransformerConfig(37, 13, 32, 4, d_ff=146, num_encoder_layers=2, num_decoder_layers=2), 65_672),
        (RNNSeq2Seq, RNNConfig(37, 13), 66_091),  # the talk's
    ],
)
def test_the_number_of_parameters_is_as_published(kind, config, count):
    with torch.device("meta"):
        assert kind(config).num_parameters() == count


def test_a_gpt_ends_at_the_last_token_of_its_vocabulary_unless_told_otherwise(tmp_path):
    assert (GPTConfig(vocab_size=100).eos_id, GPTConfig().eos_id, GPTConfig(100, eos_id=3).eos_id) == (99, 50256, 3)
    GPT(replace(GPTConfig.tiny(), eos_id=None)).save(tmp_path)
    assert GPT.load(tmp_path).config.eos_id == 64


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_every_option_of_a_configuration_is_documented(kind):
    body = ast.parse(inspect.getsource(kind)).body[0].body
    documented = [
        field.target.id
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    ]
    assert documented == [field.name for field in dataclasses.fields(kind)]


def test_every_option_of_a_block_is_documented():
    parameters = list(inspect.signature(EncoderBlock.__init__).parameters)[1:]
    assert [name for name in parameters if f"`{name}`" not in EncoderBlock.__init__.__doc__] == []


def test_every_name_that_an_annotation_has_is_one_that_the_code_knows():
    assert typing.get_args(ActivationName) == tuple(ACTIVATIONS) and typing.get_args(PoolingName) == tuple(POOLINGS)
    assert words(typing.get_type_hints(RNNConfig)["cell"]) == list(CELLS)
    assert [make_norm(name, 4) for name in typing.get_args(NormName)]
    for kind in SMALL:
        for name, hint in typing.get_type_hints(kind).items():
            for word in words(hint):
                kind(**(SMALL[kind] | {name: word}))
