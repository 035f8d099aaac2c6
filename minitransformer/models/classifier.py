"""SequenceClassifier: a text in, a label out (sequence to vector)."""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor, nn

from minitransformer.dropout import Dropout
from minitransformer.errors import InputError
from minitransformer.models.base import (
    Ids,
    Loss,
    Memory,
    Model,
    Valid,
    read_config,
    require_ids,
    require_rows_of,
    require_shape_of,
    target_loss,
)
from minitransformer.models.bert import BERT
from minitransformer.models.classifier_config import ENCODERS, ClassifierConfig
from minitransformer.models.config import Config
from minitransformer.models.described import made_again, plain_options
from minitransformer.models.gpt import GPT
from minitransformer.models.pooling import POOLINGS, AttentionPooling, PoolingName
from minitransformer.models.rnn import RNNSeq2Seq
from minitransformer.models.transformer import Transformer
from minitransformer.models.weights import copy_weights, own_shapes, own_tensors, require_fit
from minitransformer.onnx_export import write_onnx
from minitransformer.pretrained import (
    CAUSAL,
    MASKED,
    architecture_of,
    causal_class_of,
    checkpoint_folder,
    export_classifier,
    hub_class_of,
    load_pretrained,
    read_head,
)

TOKEN_PARTS: dict[type[Model], tuple[str, ...]] = {
    BERT: ("masked_head", "sentence_head"),
    GPT: ("output",),
    Transformer: ("target_embedding", "target_positions", "decoder", "output"),
    RNNSeq2Seq: ("target_embedding", "decoder", "bridge", "output"),
}
"""The parts of each model that predict tokens, which a classifier has no use for."""
OPTIONS = ("pooling", "labels", "dropout", "label_smoothing")


class SequenceClassifier(Model):
    """Embed – Encode – Attend – Predict (Honnibal 2016): `encoder` turns ids into states (B, T, D), `pooling` these
    into one vector (B, D), and a linear layer that into logits (B, num_labels).

    The encoder is any module with `encode(ids, valid) -> Memory`: a `BERT`, a `GPT`, the encoder half of a
    `Transformer` or an `RNNSeq2Seq`, or one's own. `d_model` is the width of its states, by default `config.d_model`.
    The classifier shares the encoder's parameters, so that training one trains both, but has copies of its modules, so
    that modes (`train`, `eval`) and hooks of the two are independent. The copies lack the parts that predict tokens,
    which a classifier neither trains nor saves.

    `pooling` is "first" (of a BERT with a pooler, through that: tanh(W h) as in Devlin et al. 2019), "last" (of a
    recurrent encoder, the last state of each direction), "mean", "max" or "attention". Padding changes nothing,
    wherever it is. A row without a real token gets finite logits.
    """

    config_class = ClassifierConfig

    def __init__(
        self,
        encoder: nn.Module,
        num_labels: int,
        *,
        pooling: PoolingName = "mean",
        labels: Sequence[str] | None = None,
        dropout: float = 0.1,
        label_smoothing: float = 0.0,
        d_model: int | None = None,
    ):
        super().__init__()
        if not callable(getattr(encoder, "encode", None)):
            raise InputError(f"a {type(encoder).__name__} has no method encode(ids, valid) -> Memory")
        if isinstance(encoder, RNNSeq2Seq) and not encoder.config.masked:
            raise InputError("a classifier reads real tokens alone: an RNN encoder with masked=False cannot tell them")
        self.uses_pooler = pooling == "first" and isinstance(encoder, BERT) and encoder.pooler is not None
        dropped = [part for kind, parts in TOKEN_PARTS.items() if isinstance(encoder, kind) for part in parts]
        # A copy of the modules, whose parameters are the same objects.
        self.encoder: Any = copy.deepcopy(encoder, {id(parameter): parameter for parameter in encoder.parameters()})
        for part in dropped + (["pooler"] if isinstance(encoder, BERT) and not self.uses_pooler else []):
            setattr(self.encoder, part, None)
        if isinstance(encoder, BERT):
            heads = {"masked_head": False, "sentence_head": None, "pooler": self.uses_pooler}
            self.encoder.config = replace(encoder.config, **heads)
        width = self.d_model = _width(encoder) if d_model is None else d_model
        config = getattr(self.encoder, "config", None)
        settings = config.to_dict() if isinstance(config, Config) else {"d_model": width}
        self.config = ClassifierConfig(
            encoder={"model": type(encoder).__name__, **settings},
            num_labels=num_labels,
            pooling=pooling,
            labels=None if labels is None else tuple(labels),
            dropout=dropout,
            label_smoothing=label_smoothing,
        )
        self.pooling = AttentionPooling(width) if pooling == "attention" else POOLINGS[pooling]()
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(width, num_labels)
        self.encoder_made = {} if self.config.encoder["model"] in ENCODERS else plain_options(self.encoder)
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
        options = {name: getattr(config, name) for name in OPTIONS}
        encoder_class, encoder_config = ENCODERS[config.encoder["model"]], config.encoder_config()
        # Parts that are dropped are built first, and no tensor in the file bounds their sizes.
        own_shapes(lambda: encoder_class(encoder_config), "the encoder")
        return cls(encoder_class(encoder_config), config.num_labels, **options)

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path, dtype: torch.dtype = torch.float32) -> "SequenceClassifier":
        """A `...ForSequenceClassification` of Hugging Face, of an architecture that `BERT` or `GPT` reads, or a folder
        of sentence-transformers that `export` wrote, in `dtype`, in evaluation mode, on the CPU. `InputError` as from
        them, and for heads that do something else."""
        folder = checkpoint_folder(folder_or_hub_id)
        hub_class = architecture_of(folder, read_config(folder), (*CAUSAL, *MASKED), cls.__name__)
        head = read_head(folder, hub_class)
        kind = GPT if hub_class.generates else BERT
        with warnings.catch_warnings():  # about the heads that predict tokens, and this one
            warnings.filterwarnings("ignore", message=r".* (has no (masked-token|sentence)|has a) head")
            # What predicts tokens is not in the checkpoint.
            encoder: Any = load_pretrained(kind, (hub_class,), folder, dtype, tie_word_embeddings=True)
        if "encoder.pooler.weight" in head.tensors:
            encoder.pooler = nn.Linear(encoder.config.d_model, encoder.config.d_model, dtype=dtype)
            encoder.config = replace(encoder.config, pooler=True)
        dropout = encoder.config.dropout if head.dropout is None else head.dropout
        dropout = 0.0 if hub_class.generates else dropout
        model = cls(encoder, len(head.labels), pooling=head.pooling, labels=head.labels, dropout=dropout).to(dtype)
        own = own_tensors(model)
        require_fit({name: own[name] for name in head.tensors if name in own}, head.tensors, str(folder))
        copy_weights(model, head.tensors)
        return model.eval()

    def export(self, folder: str | Path, tokenizer: Tokenizer | None = None) -> Path:
        """Write a checkpoint that `transformers` reads as `BertForSequenceClassification`, `RobertaFor...`,
        `AlbertFor...` or `GPT2For...`, and with a `tokenizer` as a `pipeline("text-classification")`. These pool
        "first" through a BERT's pooler and "last" of a GPT. A BERT with the pooling "mean", "max" or "first" without a
        pooler goes out for `SentenceTransformer`, whose `encode` gives the logits.

        Raises `InputError` for an encoder that none of them can express, naming the fields, and for other poolings.
        """
        ours: dict[str, Any] = getattr(getattr(self.encoder, "config", None), "to_dict", dict)()
        if not isinstance(self.encoder, BERT | GPT):
            raise InputError(f"a classifier with a {type(self.encoder).__name__} cannot be exported: keep it with save")
        hub_class = causal_class_of(ours) if isinstance(self.encoder, GPT) else hub_class_of(ours)
        return export_classifier(self, hub_class, folder, tokenizer)

    def to_onnx(self, path: str | Path) -> Path:
        """Write an ONNX file, which gives `logits` (batch, labels) for the inputs that `BERT.to_onnx` names.

        Raises `InputError` as it does, and for an encoder other than a BERT or a GPT: the loop of an RNN over its
        tokens has one length in such a file.
        """
        if not isinstance(self.encoder, BERT | GPT):
            raise InputError(f"a classifier with a {type(self.encoder).__name__} has no ONNX file: keep it with save")
        return write_onnx(self, path, output="logits", has_segments=getattr(self.encoder.config, "num_segments", 1) > 1)

    def described(self) -> nn.Module:
        c = self.config
        if c.encoder["model"] in ENCODERS:
            return super().described()
        # No configuration describes an encoder of one's own.
        options = {name: getattr(c, name) for name in OPTIONS}
        described = made_again(lambda: type(self)(self.encoder, c.num_labels, d_model=self.d_model, **options))
        described.encoder, described.encoder_made = self.encoder, self.encoder_made
        now = plain_options(self.encoder)
        if changed := [f"{k}={v!r}, now {now.get(k)!r}" for k, v in self.encoder_made.items() if now.get(k) != v]:
            warnings.warn(
                f"this {c.encoder['model']} was changed since the classifier was made of it, which is not saved: "
                f"{', '.join(changed)}: change the encoder again before loading the weights into it",
                stacklevel=4,
            )
        return described

    def forward(
        self, ids: Ids, valid: Valid | None = None, segment_ids: Ids | None = None
    ) -> Float[Tensor, "batch labels"]:
        """Logits. `valid` and `segment_ids` are the encoder's arguments; only a BERT has segments."""
        return self.output(self.dropout(self.pool(self.encode(ids, valid, segment_ids))))

    def encode(self, ids: Ids, valid: Valid | None = None, segment_ids: Ids | None = None) -> Memory:
        require_shape_of(ids, valid=valid, segment_ids=segment_ids)
        if not ids.shape[1]:  # rows without a real token
            ids = F.pad(ids, (0, 1))
            valid, segment_ids = torch.zeros_like(ids, dtype=torch.bool), None
        if segment_ids is None:
            return self.encoder.encode(ids, valid)
        if not isinstance(self.encoder, BERT):
            raise InputError(f"segment_ids are for a BERT; a {type(self.encoder).__name__} has no segments")
        return self.encoder.encode(ids, valid, segment_ids)

    def pool(self, memory: Memory) -> Float[Tensor, "batch d_model"]:
        """One vector for each text, before dropout."""
        if self.config.pooling == "last" and isinstance(self.encoder, RNNSeq2Seq) and memory.final is not None:
            # The last state of a backward direction is the one at the first token.
            recurrent = self.encoder.encoder
            last_layer = memory.final[-recurrent.directions * recurrent.tensors_per_layer :]
            return torch.cat(last_layer[:: recurrent.tensors_per_layer], dim=-1)
        pooled = self.pooling(memory.states, memory.valid)
        return self.encoder.pool(pooled[:, None]) if self.uses_pooler else pooled

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """`batch` has `ids` (B, T) and `labels` (B,), and may have `valid` and `segment_ids` (B, T)."""
        require_ids("ids", batch["ids"])
        require_rows_of(batch["ids"], labels=batch["labels"])
        logits = self(batch["ids"], batch.get("valid"), batch.get("segment_ids"))
        smoothing = self.config.label_smoothing if self.training else 0.0
        total = target_loss(logits, batch["labels"], "labels", smoothing)
        return {"label": Loss(total, self.count_targets(batch)["label"])}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        labels = batch["labels"]
        return {"label": torch.full((), len(labels), device=labels.device)}


def _width(encoder: Any) -> int:
    """The width of the encoder's states."""
    if isinstance(encoder, RNNSeq2Seq):
        return encoder.encoder.output_size
    width = getattr(getattr(encoder, "config", None), "d_model", None)
    if type(width) is not int:
        raise InputError(f"a {type(encoder).__name__} has no config.d_model: give the width of its states as d_model")
    return width
