"""BERT, RoBERTa and ALBERT of transformers, tiny and random, beside ours."""

import copy

import torch
import torch.nn.functional as F
from helpers_checkpoints import edit_config
from safetensors.torch import load_file
from transformers import (
    AlbertConfig,
    AlbertForPreTraining,
    BertConfig,
    BertForPreTraining,
    RobertaConfig,
    RobertaForMaskedLM,
)

from minitransformer import BERT, BERTConfig

THEIRS = {"vocab_size": 13, "hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 2}
THEIRS |= {"intermediate_size": 20, "max_position_embeddings": 16}
OURS = {"vocab_size": 13, "d_model": 12, "num_heads": 3, "num_layers": 2, "d_ff": 20, "max_length": 16}
OURS |= {"cls_id": 2, "sep_id": 3, "mask_id": 4}
ROBERTA = {"num_segments": 1, "position_offset": 2, "norm_eps": 1e-5, "pad_id": 1, "cls_id": 0, "sep_id": 2}
ROBERTA |= {"pooler": False, "sentence_head": None}
ALBERT = {"d_embedding": 7, "num_hidden_groups": 1, "activation": "gelu_tanh", "sentence_head": "sop", "dropout": 0.0}

IDS = {"cls_token_id": 2, "sep_token_id": 3, "mask_token_id": 4}
ROBERTA_THEIRS = {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "max_position_embeddings": 18}
ALBERT_THEIRS = {"embedding_size": 7, "num_hidden_layers": 4}
CASES = {
    "BERT": (BertForPreTraining, BertConfig, {}, {}),
    "BERT of one wide head": (
        BertForPreTraining,
        BertConfig,
        {"num_attention_heads": 1, "num_hidden_layers": 3, "hidden_act": "relu", "layer_norm_eps": 0.1},
        {"num_heads": 1, "num_layers": 3, "activation": "relu", "norm_eps": 0.1},
    ),
    "RoBERTa": (RobertaForMaskedLM, RobertaConfig, ROBERTA_THEIRS, ROBERTA),
    "RoBERTa of one layer": (
        RobertaForMaskedLM,
        RobertaConfig,
        {**ROBERTA_THEIRS, "num_hidden_layers": 1, "hidden_size": 20, "num_attention_heads": 5},
        {**ROBERTA, "num_layers": 1, "d_model": 20, "num_heads": 5},
    ),
    "ALBERT": (AlbertForPreTraining, AlbertConfig, ALBERT_THEIRS, {**ALBERT, "num_layers": 4}),
    "ALBERT of two groups": (
        AlbertForPreTraining,
        AlbertConfig,
        {**ALBERT_THEIRS, "num_hidden_groups": 2, "embedding_size": 12},
        {**ALBERT, "num_layers": 4, "num_hidden_groups": 2, "d_embedding": 12},
    ),
}


@torch.no_grad()
def nudged(model):
    """No norm is 1 and no bias 0."""
    for parameter in model.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


def theirs_of(case, **changes):
    cls, config, sizes, _ = CASES[case]
    return nudged(cls(config(**{**THEIRS, **sizes, **changes})))


def ours_of(case="BERT", **changes):
    return nudged(BERT(BERTConfig(**{**OURS, **CASES[case][3], **changes})))


def saved(theirs, folder):
    """Adds the ids of special tokens, which `transformers` leaves to the tokenizer, to config.json."""
    theirs.save_pretrained(folder)
    if (kind := theirs.config.model_type) in ("bert", "roberta", "albert"):
        edit_config(folder, **({"mask_token_id": 4} if kind == "roberta" else IDS))
    return folder


def gradients_by_their_names(ours, folder):
    """Our gradients under the names of `transformers`: an exported model has its gradients for weights."""
    twin = copy.deepcopy(ours)
    for mine, parameter in zip(twin.parameters(), ours.parameters(), strict=True):
        mine.data = parameter.grad
    return load_file(twin.export(folder) / "model.safetensors")


def batch(model, *, holes=False):
    """Rows of 9, 5, 2 and 6 tokens, padded at their end or, after the first, in between; ids, valid, segments."""
    c = model.config
    valid = torch.arange(9) < torch.tensor([[9], [5], [2], [6]])
    if holes:
        valid = torch.stack([valid[0], *(row[F.pad(1 + torch.randperm(8), (1, 0))] for row in valid[1:])])
    ids = torch.randint(5, c.vocab_size, valid.shape).masked_fill(~valid, c.pad_id)
    return ids, valid, torch.randint(c.num_segments, valid.shape)


def their_outputs(theirs, ids, valid, segments):
    """Logits of tokens and of sentences (None: RoBERTa has none). Where they count places by column, not by token,
    they are given the positions."""
    options = {"attention_mask": valid.long(), "token_type_ids": segments}
    if theirs.config.model_type != "roberta":
        options["position_ids"] = (valid.long().cumsum(dim=1) - 1).clamp(min=0)
    output = theirs(ids, **options)
    if theirs.config.model_type == "roberta":
        return output.logits, None
    sentence = output.seq_relationship_logits if theirs.config.model_type == "bert" else output.sop_logits
    return output.prediction_logits, sentence
