"""BERT, RoBERTa and ALBERT of transformers, tiny and random, and which of their tensors are which of ours."""

import torch
import torch.nn.functional as F
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


def pairs(ours, theirs):
    """Pairs (ours, [theirs, ...]) of tensors: ours is theirs, concatenated along the first dimension."""
    body = getattr(theirs, theirs.base_model_prefix)
    table = body.embeddings
    yield ours.embedding.weight, [table.word_embeddings.weight]
    yield ours.positions.embedding.weight, [table.position_embeddings.weight]
    yield ours.segments.weight, [table.token_type_embeddings.weight]
    modules = [(ours.embedding_norm, [table.LayerNorm])]
    if hasattr(body.encoder, "albert_layer_groups"):
        groups = [group.albert_layers[0] for group in body.encoder.albert_layer_groups]
        layers = [groups[i * len(groups) // len(ours.encoder.layers)] for i in range(len(ours.encoder.layers))]
        modules += [(ours.widen, [body.encoder.embedding_hidden_mapping_in]), (ours.pooler, [body.pooler])]
        modules += [(ours.sentence_head, [theirs.sop_classifier.classifier])]
        head = theirs.predictions
        modules += [(ours.masked_head.project, [head.dense]), (ours.masked_head.norm, [head.LayerNorm])]
    elif hasattr(theirs, "lm_head"):
        layers, head = body.encoder.layer, theirs.lm_head
        modules += [(ours.masked_head.project, [head.dense]), (ours.masked_head.norm, [head.layer_norm])]
    else:
        layers, head = body.encoder.layer, theirs.cls.predictions
        modules += [(ours.pooler, [body.pooler.dense]), (ours.sentence_head, [theirs.cls.seq_relationship])]
        modules += [(ours.masked_head.project, [head.transform.dense])]
        modules += [(ours.masked_head.norm, [head.transform.LayerNorm])]
    yield ours.masked_head.output.bias, [head.bias]
    for mine, other in zip(ours.encoder.layers, layers, strict=True):
        attention = other.attention
        inner = attention if hasattr(attention, "query") else attention.self
        outer = attention if hasattr(attention, "dense") else attention.output
        modules += [
            (mine.attention.project_in, [inner.query, inner.key, inner.value]),
            (mine.attention.project_out, [outer.dense]),
            (mine.attention_residual.norm, [outer.LayerNorm]),
            (mine.feed_forward.expand, [other.ffn if hasattr(other, "ffn") else other.intermediate.dense]),
            (mine.feed_forward.contract, [other.ffn_output if hasattr(other, "ffn") else other.output.dense]),
            (
                mine.feed_forward_residual.norm,
                [other.full_layer_layer_norm if hasattr(other, "ffn") else other.output.LayerNorm],
            ),
        ]
    for mine, others in modules:
        yield mine.weight, [other.weight for other in others]
        yield mine.bias, [other.bias for other in others]


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
