"""What `python -m train.translate` can be told."""

from dataclasses import dataclass
from typing import Literal

from minitransformer.data.locales import locale_names
from minitransformer.errors import InputError
from train.engine.settings import Settings
from train.translate.recipes import PRESETS


@dataclass(frozen=True)
class TranslateSettings(Settings):
    """Train sequence-to-sequence models on the same pairs, one after another under one budget, and compare them.

    --minutes (of training, evaluation not counted) and --steps are per model. Without either it is 1 minute on short
    strings, 10 on sentences and on dates in several locales.
    """

    data: str = "dates"
    """dates, recall, bible, hub:NAME, or the path of a table, of a folder of train and validation files, or of two
    aligned files without their suffix."""
    source: str | None = None
    """The column or suffix to translate from."""
    target: str | None = None
    """The column or suffix to translate into."""
    locales: str | None = None
    """Of dates: "de,fr_CA" or "all", every locale of CLDR whose long date names the month. Default: en."""
    models: str | None = None
    """Which to train, in this order: transformer, rnn-additive (Bahdanau's attention), rnn-dot, rnn-general, rnn-concat
    (Luong's), rnn-none (without attention); on sentences also rnn-local-p (Luong's), on short strings rnn-location (the
    talk's attention) and talk (the talk's own training). Default: rnn-location,rnn-additive,transformer; on sentences
    transformer."""
    preset: Literal["characters", "tiny", "small"] | None = None
    """Sizes and rates. Default: characters (66,000 parameters, chosen on dates) with the tokenizer of that name, else
    tiny."""

    tokenizer: Literal["character", "bpe"] | None = None
    """Default: character, unless a source is longer than 40 characters: then they are sentences."""
    vocab_size: int = 4000
    """Of bpe: pieces of words."""
    joint: bool = True
    """One vocabulary of bpe for source and target, and of a Transformer one table of embeddings, rather than two."""
    max_length: int = 128
    """Of bpe: training pairs with more tokens on a side are left out."""

    lr: float | None = None
    """Peak learning rate. Default, as of those down to --pool: what was best on validation, model by model and
    optimizer by optimizer."""
    optimizer: Literal["adamw", "muon"] | None = None
    """muon, of the transformer alone: Muon for the matrices inside its blocks, AdamW for the rest."""
    warmup_steps: int | None = None
    dropout: float | None = None
    label_smoothing: float | None = None
    max_tokens: int | None = None
    """Source and target tokens of a batch, padding included."""
    pool: int | None = None
    """Pairs are sorted by length within this many batches at a time: more of them save padding, but mix less.
    On dates the length gives the format away, and 1 learns best."""
    accumulate: int = 1
    """Batches in a step, of each process."""
    evaluations: int | None = None
    """On the validation split, evenly over the run. Default: 40; on sentences and on dates in several locales 12."""
    patience: int | None = None
    """Stop after so many evaluations without a better one. Default: go on to the end."""
    choose_by: Literal["score", "loss"] = "score"
    """Which weights are the best: those of the highest exact match or BLEU on validation, or of the lowest loss."""
    average: int | None = None
    """Take the mean of the weights of so many evaluations, where validation finds it better than the best one. Default:
    5; on short strings 1, which takes the best one."""
    average_of: Literal["best", "last"] = "best"
    """Which evaluations those are."""

    beam: int | None = None
    """Beam size of the final translations; 1 is greedy, as are those while training. Default: 5; on short strings 1."""
    alpha: float = 0.6
    """Length penalty of the beam (Wu et al. 2016): 0 for none; more prefers longer translations."""

    def validate(self) -> None:
        super().validate()
        for name in (
            "lr",
            "max_tokens",
            "pool",
            "max_length",
            "vocab_size",
            "accumulate",
            "evaluations",
            "patience",
            "average",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"--{name.replace('_', '-')} {value} must be more than 0")
        for name in ("dropout", "label_smoothing"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value} must be at least 0 and less than 1")
        if self.beam is not None and self.beam < 1:
            raise InputError(f"--beam {self.beam} must be at least 1")
        for name in ("alpha", "warmup_steps"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"--{name.replace('_', '-')} {value} must be at least 0")
        self.check_models(self.preset)

    @property
    def several_locales(self) -> bool:
        return self.locales is not None and len(locale_names(self.locales)) > 1

    def check_models(self, preset: str | None) -> None:
        """Raises `InputError` for a model that the preset (None: no preset) has no recipe for."""
        known = {name for each in ([preset] if preset else PRESETS) for name in PRESETS[each]}
        if unknown := [name for name in self.model_names(preset) if name not in known]:
            where = f" of --preset {preset}" if preset else ""
            raise InputError(f"--models {','.join(unknown)}: not one{where}: {', '.join(sorted(known))}")
        recurrent = [name for name in self.model_names(preset) if name != "transformer"]
        if self.optimizer == "muon" and recurrent and preset is not None:
            raise InputError(f"--optimizer muon is for the transformer, not for {', '.join(recurrent)}")

    def model_names(self, preset: str | None) -> list[str]:
        default = "rnn-location,rnn-additive,transformer" if preset == "characters" else "transformer"
        names = [name.strip() for name in (default if self.models is None else self.models).split(",") if name.strip()]
        if not names or len(set(names)) < len(names):
            raise InputError(f"--models {self.models!r}: name at least one, each once, separated by commas")
        return names
