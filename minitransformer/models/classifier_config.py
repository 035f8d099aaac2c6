"""The sizes and options of a classifier, and the encoders that it can be built with."""

from dataclasses import dataclass
from typing import Any

from minitransformer.checks import fits, require_number
from minitransformer.errors import InputError
from minitransformer.models.base import Model
from minitransformer.models.bert import BERT
from minitransformer.models.config import MOST_PARAMETERS, Config
from minitransformer.models.gpt import GPT
from minitransformer.models.pooling import PoolingName
from minitransformer.models.rnn import RNNSeq2Seq
from minitransformer.models.transformer import Transformer
from minitransformer.untrusted import shown

ENCODERS: dict[str, type[Model]] = {"BERT": BERT, "GPT": GPT, "Transformer": Transformer, "RNNSeq2Seq": RNNSeq2Seq}


@dataclass(frozen=True)
class ClassifierConfig(Config):
    """The encoder and the options of a `SequenceClassifier`."""

    encoder: dict
    """The encoder's configuration, with its class name as "model"."""
    num_labels: int
    """Classes."""
    pooling: PoolingName = "mean"
    """How the states of a text become one vector."""
    labels: tuple | None = None
    """Names of the classes, in the order of the logits."""
    dropout: float = 0.1
    """On the pooled state."""
    label_smoothing: float = 0.0
    """While training only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_fraction("dropout", "label_smoothing")
        require_number("num_labels", self.num_labels, at_least=2)
        if self.labels is not None:
            if not fits(self.labels, tuple[str, ...]):
                raise InputError(f"labels={shown(list(self.labels))} must be strings")
            if len(self.labels) != self.num_labels or len(set(self.labels)) < len(self.labels):
                names = shown(list(self.labels))
                raise InputError(f"labels={names} are not num_labels={self.num_labels} different names")
        name = self.encoder.get("model")
        if isinstance(name, str) and name in ENCODERS:
            sizes = self.encoder_config().to_dict()
            if self.num_labels * max(sizes.get("d_model", 0), sizes.get("hidden_size", 0)) > MOST_PARAMETERS:
                raise InputError(f"num_labels={self.num_labels} are more than any model tells apart")

    def encoder_config(self) -> Any:
        """The encoder's own configuration; `InputError` if it is not valid, or not that of a model of this library."""
        fields = dict(self.encoder)
        name = fields.pop("model", None)
        if not isinstance(name, str) or name not in ENCODERS:
            raise InputError(
                f"the encoder is a {shown(name)}, and only {', '.join(ENCODERS)} can be built from a configuration: "
                "make a SequenceClassifier of your own encoder and load model.safetensors into it"
            )
        return ENCODERS[name].config_class.from_dict(fields)

    def distinct_layers(self) -> int:
        return self.encoder_config().distinct_layers()
