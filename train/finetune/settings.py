"""The flags of `python -m train.finetune`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from minitransformer.checks import Count, CountOrZero, Range, Share
from minitransformer.models.pooling import PoolingName
from train.engine.presets import preset_flag
from train.engine.settings import Accumulate, LearningRate, Settings, VocabSize
from train.finetune.presets import PRESETS


@dataclass(frozen=True)
class FinetuneSettings(Settings):
    """Train a classifier of texts. Its weights, `tokenizer.json` and figures go into the run folder.

    The weights with the best evaluation on the validation split are kept and scored on the test split, beside two
    baselines.
    """

    settings_file: ClassVar[str] = "settings.json"  # config.json is the model's
    presets: ClassVar = PRESETS

    preset: Annotated[str | None, preset_flag(PRESETS, "A recipe by its name. Other flags overrule it.")] = None
    data: str = "reviews"
    """reviews, hub:NAME, a table of texts and labels (.csv, .tsv, .jsonl, .parquet), or a folder of train, validation
    (or dev) and test tables."""
    text: str | None = None
    """The column of the texts. Default: text, sentence, or the only one besides the labels."""
    label: str | None = None
    """The column of the labels. Default: label."""

    init: Path = Path("minilm")
    """minilm, scratch, a run of train.pretrain or train.finetune, or a folder of Hugging Face's: a BERT, a GPT or a
    classifier."""
    encoder: Literal["bert", "gpt", "transformer", "rnn"] | None = None
    """For --init scratch. Default: transformer."""
    d_model: Count = 128
    """For --init scratch."""
    num_layers: Count | None = None
    """For --init scratch. Default: 2, but 1 for rnn."""
    num_heads: Count = 4
    """For --init scratch."""
    vocab_size: VocabSize = 8000
    """For --init scratch: the size of a WordPiece vocabulary, trained on the training texts."""
    cased: bool = False
    """For --init scratch: keep capital letters."""
    strip_accents: bool = False
    """For --init scratch: take accents, umlauts and other marks away, as lower-case BERT does."""

    pooling: PoolingName | None = None
    """How the states of a text become one vector. Default: mean, but attention for rnn."""
    epochs: Annotated[int, Range(more_than=0, at_most=10_000)] | None = None
    """Passes over the training texts, unless --steps or --minutes end the run sooner. Default: best on reviews."""
    lr: LearningRate | None = None
    """Peak learning rate. Default: best on reviews."""
    layer_decay: Annotated[float, Range(at_least=0.001, at_most=10)] | None = None
    """The learning rate of each block, as a multiple of the rate of the block above it. 1 is the same for all."""
    freeze: CountOrZero = 0
    """Freeze the embeddings and this many blocks above them. 0 trains everything."""
    label_smoothing: Share = 0.0
    dropout: Share | None = None
    """Dropout of encoder and head. Default: the encoder's own, and 0.1 in the head; from scratch, best on reviews."""
    weight_decay: Annotated[float, Range(at_least=0, at_most=1000)] = 0.01
    warmup: Annotated[float, Range(at_least=0, at_most=1000)] = 0.1
    """The share of the first epoch in which the learning rate rises."""
    max_tokens: Count = 1024
    """The largest batch, in tokens, padding included."""
    pool: Count = 50
    """Texts are sorted by length within this many batches at a time: more save padding but mix the texts less."""
    accumulate: Accumulate = 1
    """Batches per step and process."""
    evaluations: Count = 6
    """Evaluations on the validation split, evenly over the run."""
    patience: Count = 4
    """Stop after this many evaluations without a better one."""
    samples: bool = True
    """Show the labels of two validation texts at each evaluation, and keep them in samples.jsonl."""
    baselines: bool = True
    """Also train naive Bayes and logistic regression on the same split, with scikit-learn."""

    def validate(self) -> None:
        super().validate()
        if not self.from_scratch:
            new = ("encoder", "d_model", "num_layers", "num_heads", "vocab_size", "cased", "strip_accents")
            self.refuse_idle(f"beside --init {self.init}, but beside --init scratch", *new)
        elif self.encoder == "rnn":
            self.refuse_idle("with --encoder rnn", "num_heads")

    @property
    def from_scratch(self) -> bool:
        return str(self.init) == "scratch"

    @property
    def batches_per_step(self) -> int:
        """Of all processes together."""
        return self.accumulate * self.processes
