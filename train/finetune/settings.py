"""The flags of `python -m train.finetune`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from minitransformer.errors import InputError
from train.engine.settings import Settings


@dataclass(frozen=True)
class FinetuneSettings(Settings):
    """Train a classifier of texts. Its weights, `tokenizer.json` and figures go into the run folder.

    The weights with the best evaluation on the validation split are kept and scored on the test split, beside two
    baselines.
    """

    settings_file: ClassVar[str] = "settings.json"  # config.json is the model's

    data: str = "reviews"
    """reviews, hub:NAME, a table of texts and labels (.csv, .tsv, .jsonl, .parquet), or a folder of train, validation
    (or dev) and test tables."""
    text: str | None = None
    """The column of the texts. Default: text, sentence, or the only one besides the labels."""
    label: str | None = None
    """The column of the labels. Default: label."""

    init: Path = Path("minilm")
    """minilm, scratch, a run of train.pretrain or train.finetune, or a BERT or GPT-2 folder of Hugging Face's."""
    encoder: Literal["bert", "gpt", "transformer", "rnn"] | None = None
    """For --init scratch. Default: transformer."""
    d_model: int | None = None
    """For --init scratch. Default: 128."""
    num_layers: int | None = None
    """For --init scratch. Default: 2, but 1 for rnn."""
    num_heads: int | None = None
    """For --init scratch. Default: 4."""
    vocab_size: int | None = None
    """For --init scratch: the size of a WordPiece vocabulary, trained on the training texts. Default: 8,000."""

    pooling: Literal["first", "last", "mean", "max", "attention"] | None = None
    """How the states of a text become one vector. Default: mean, but attention for rnn."""
    epochs: int | None = None
    """Passes over the training texts, unless --steps or --minutes end the run sooner. Default: best on reviews."""
    lr: float | None = None
    """Peak learning rate. Default: best on reviews."""
    layer_decay: float | None = None
    """The learning rate of each block, as a multiple of the rate of the block above it. 1 is the same for all."""
    freeze: int = 0
    """Freeze the embeddings and this many blocks above them. 0 trains everything."""
    label_smoothing: float = 0.0
    dropout: float | None = None
    """Dropout of encoder and head. Default: the encoder's own, and 0.1 in the head; from scratch, best on reviews."""
    weight_decay: float = 0.01
    warmup: float = 0.1
    """The share of the first epoch in which the learning rate rises."""
    max_tokens: int = 1024
    """The largest batch, in tokens, padding included."""
    pool: int = 50
    """Texts are sorted by length within this many batches at a time: more save padding but mix the texts less."""
    accumulate: int = 1
    """Batches per step and process."""
    evaluations: int = 6
    """Evaluations on the validation split, evenly over the run."""
    patience: int = 4
    """Stop after this many evaluations without a better one."""
    baselines: bool = True
    """Also train naive Bayes and logistic regression on the same split, with scikit-learn."""

    def validate(self) -> None:
        super().validate()
        sizes = ("d_model", "num_layers", "num_heads", "vocab_size")
        counts = ("epochs", "max_tokens", "pool", "accumulate", "evaluations", "patience")
        self.require(*sizes, *counts, "lr", "layer_decay", more_than=0)
        self.require("label_smoothing", "dropout", at_least=0, less_than=1)
        self.require("freeze", "warmup", "weight_decay", at_least=0)
        if not self.from_scratch:
            given = [f"--{name.replace('_', '-')}" for name in ("encoder", *sizes) if getattr(self, name) is not None]
            if given:
                raise InputError(f"{', '.join(given)}: for --init scratch; --init {self.init} has its own")
        elif self.encoder == "rnn" and self.num_heads is not None:
            raise InputError("--num-heads: --encoder rnn has no heads")

    @property
    def from_scratch(self) -> bool:
        return str(self.init) == "scratch"

    @property
    def batches_per_step(self) -> int:
        """Of all processes together."""
        return self.accumulate * self.processes
