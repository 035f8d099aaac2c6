"""SequenceClassifier: a text in, a label out (sequence to vector)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minitransformer.dropout import Dropout
from minitransformer.errors import InputError
from minitransformer.models.base import MOST_PARAMETERS, Config, Loss, Memory, Model, target_loss
from minitransformer.models.bert import BERT
from minitransformer.models.gpt import GPT
from minitransformer.models.pooling import POOLINGS, make_pooling
from minitransformer.models.rnn import RNNSeq2Seq
from minitransformer.models.transformer import Transformer
from minitransformer.models.weights import own_shapes
from minitransformer.untrusted import shown

ENCODERS: dict[str, type[Model]] = {"BERT": BERT, "GPT": GPT, "Transformer": Transformer, "RNNSeq2Seq": RNNSeq2Seq}
# The parts of each that predict tokens, which a classifier has no use for.
_TOKEN_PARTS: dict[type[Model], tuple[str, ...]] = {
    BERT: ("masked_head", "sentence_head"),
    GPT: ("output",),
    Transformer: ("target_embedding", "target_positions", "decoder", "output"),
    RNNSeq2Seq: ("target_embedding", "decoder", "bridge", "output"),
}


@dataclass(frozen=True)
class ClassifierConfig(Config):
    """`encoder` is the configuration of the encoder, without what the classifier drops of a BERT, with its "model";
    `labels` are the names, in the order of the logits. `dropout` falls on the pooled state. `label_smoothing` applies
    while training only."""

    encoder: dict
    num_labels: int
    pooling: str = "mean"
    labels: tuple | None = None
    dropout: float = 0.1
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_fraction("dropout", "label_smoothing")
        self.require_one_of("pooling", POOLINGS)
        if self.num_labels < 2:
            raise InputError(f"num_labels={self.num_labels}: a classifier chooses between 2 labels at least")
        if self.labels is not None:
            if not all(isinstance(label, str) for label in self.labels):
                raise InputError(f"labels={shown(list(self.labels))} must be strings")
            if len(self.labels) != self.num_labels or len(set(self.labels)) < len(self.labels):
                names = shown(list(self.labels))
                raise InputError(f"labels={names} are not num_labels={self.num_labels} different names")
        name = self.encoder.get("model")
        if not isinstance(name, str) or name not in ENCODERS:
            raise InputError(f"an encoder is one of {', '.join(ENCODERS)}, not {shown(name)}")
        width = self.encoder_config().to_dict()
        if self.num_labels * max(width.get("d_model", 0), width.get("hidden_size", 0)) > MOST_PARAMETERS:
            raise InputError(f"num_labels={self.num_labels} are more than any model tells apart")

    def encoder_config(self) -> Any:
        """`InputError` if `encoder` is not the configuration of one."""
        fields = dict(self.encoder)
        return ENCODERS[fields.pop("model")].config_class.from_dict(fields)

    def distinct_layers(self) -> int:
        return self.encoder_config().distinct_layers()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ClassifierConfig":
        """As it stands in JSON, which has lists only."""
        labels = values.get("labels")
        return super().from_dict({**values, "labels": tuple(labels) if isinstance(labels, list) else labels})


class SequenceClassifier(Model):
    """Embed – Encode – Attend – Predict (Honnibal 2016): `encoder` turns ids into states (B, T, D), `pooling` these
    into one vector (B, D), and a linear layer that into logits (B, num_labels).

    The encoder is a `BERT`, a `GPT`, or the encoder half of a `Transformer` or an `RNNSeq2Seq`; its tensors are shared
    with the model handed in, but for the parts that predict tokens, which the classifier neither has nor saves.
    `pooling` is "first" (of a BERT with a pooler, through that: tanh(W h) as in Devlin et al. 2019), "last" (of a
    recurrent encoder, the last state of each direction), "mean", "max" or "attention".

    Padding, wherever it stands, changes nothing. A row without a real token gets finite logits.
    """

    config_class = ClassifierConfig

    def __init__(
        self,
        encoder: Model,
        num_labels: int,
        *,
        pooling: str = "mean",
        labels: Sequence[str] | None = None,
        dropout: float = 0.1,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        self.uses_pooler = pooling == "first" and isinstance(encoder, BERT) and encoder.pooler is not None
        config = encoder.config
        if isinstance(encoder, BERT):
            config = replace(config, masked_head=False, sentence_head=None, pooler=self.uses_pooler)
        self.config = ClassifierConfig(
            encoder={"model": type(encoder).__name__, **config.to_dict()},
            num_labels=num_labels,
            pooling=pooling,
            labels=None if labels is None else tuple(labels),
            dropout=dropout,
            label_smoothing=label_smoothing,
        )
        if isinstance(encoder, RNNSeq2Seq) and not encoder.config.masked:
            raise InputError("a classifier reads real tokens alone: an RNN encoder with masked=False cannot tell them")
        self.encoder = _without(encoder, _TOKEN_PARTS[type(encoder)] + (() if self.uses_pooler else ("pooler",)))
        self.encoder.config = config
        width = encoder.encoder.output_size if isinstance(encoder, RNNSeq2Seq) else encoder.config.d_model
        self.pooling = make_pooling(pooling, width)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(width, num_labels)
        self.init_weights()

    def init_weights(self) -> None:
        """The output layer N(0, 0.02) and the projection of attention pooling Xavier-uniform; their biases and the
        query of attention pooling 0. The encoder keeps the weights it came with."""
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)
        for name, parameter in self.pooling.named_parameters():
            if name.endswith("weight"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)

    @classmethod
    def from_config(cls, config: ClassifierConfig) -> "SequenceClassifier":
        options = {name: getattr(config, name) for name in ("pooling", "labels", "dropout", "label_smoothing")}
        encoder_class, encoder_config = ENCODERS[config.encoder["model"]], config.encoder_config()
        # The parts of it that are dropped are made first: the weights that fit the others say nothing of their sizes.
        own_shapes(lambda: encoder_class(encoder_config), "the encoder")
        return cls(encoder_class(encoder_config), config.num_labels, **options)

    def forward(
        self,
        ids: Int[Tensor, "batch time"],
        valid: Bool[Tensor, "batch time"] | None = None,
        segment_ids: Int[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch labels"]:
        """`valid` and `segment_ids` as the encoder understands them; only a BERT has segments."""
        return self.output(self.dropout(self.pool(self.encode(ids, valid, segment_ids))))

    def encode(
        self,
        ids: Int[Tensor, "batch time"],
        valid: Bool[Tensor, "batch time"] | None = None,
        segment_ids: Int[Tensor, "batch time"] | None = None,
    ) -> Memory:
        if not ids.shape[1]:
            raise InputError("a batch without a single token cannot be classified")
        if segment_ids is None:
            return self.encoder.encode(ids, valid)
        if not isinstance(self.encoder, BERT):
            raise InputError(f"segment_ids are for a BERT; a {type(self.encoder).__name__} has no segments")
        return self.encoder.encode(ids, valid, segment_ids)

    def pool(self, memory: Memory) -> Float[Tensor, "batch d_model"]:
        """One vector for each text, before dropout."""
        if self.config.pooling == "last" and isinstance(self.encoder, RNNSeq2Seq) and memory.final is not None:
            # Of a backward direction the last state stands at the first token.
            recurrent = self.encoder.encoder
            last_layer = memory.final[-recurrent.directions * recurrent.tensors_per_layer :]
            return torch.cat(last_layer[:: recurrent.tensors_per_layer], dim=-1)
        pooled = self.pooling(memory.states, memory.valid)
        return self.encoder.pool(pooled[:, None]) if self.uses_pooler else pooled

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """`batch` has `ids` (B, T) and `labels` (B,), and `valid` and `segment_ids` (B, T) where there are such."""
        logits = self(batch["ids"], batch.get("valid"), batch.get("segment_ids"))
        smoothing = self.config.label_smoothing if self.training else 0.0
        return {"label": Loss(target_loss(logits, batch["labels"], smoothing), self.count_targets(batch)["label"])}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        labels = batch["labels"]
        return {"label": labels.new_tensor(len(labels))}


def _without(model: Model, parts: Sequence[str]) -> Any:
    """The model without these of its parts, sharing the others with it."""
    bare = copy.copy(model)
    bare._modules = {name: None if name in parts else part for name, part in model._modules.items()}
    return bare
