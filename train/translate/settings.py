"""The flags of `python -m train.translate`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from minitransformer.beam import ALPHA
from minitransformer.checks import Count, CountOrZero, Range, Share, flag_name
from minitransformer.data.locales import locale_names
from minitransformer.errors import InputError
from train.engine.presets import preset_flag
from train.engine.settings import Accumulate, LearningRate, Settings, VocabSize, distinct
from train.translate.recipes import PRESETS, Recipe, recipe_for


@dataclass(frozen=True)
class TranslateSettings(Settings):
    """Train sequence-to-sequence models on the same pairs, one after another under one budget, and compare them.

    --minutes (of training, evaluation not counted) and --steps are per model. Without either it is 1 minute on short
    strings, 10 on sentences and on dates in several locales.
    """

    presets: ClassVar = PRESETS

    data: str = "dates"
    """dates, recall, bible, hub:NAME, or the path of a table, of a folder of train and validation files, or of two
    aligned files without their suffix."""
    source: str | None = None
    """The column or suffix to translate from."""
    target: str | None = None
    """The column or suffix to translate into."""
    locales: str | None = None
    """Locales of dates: "de,fr_CA" or "all", every locale of CLDR whose long date names the month. Default: en."""
    models: str | None = None
    """Models to train, in this order: transformer, rnn-additive (Bahdanau's attention), rnn-dot, rnn-general,
    rnn-concat (Luong's), rnn-none (without attention); on sentences also rnn-local-p (Luong's), on short strings
    rnn-location (the talk's attention) and talk (the talk's own training). Default: transformer; on short strings
    rnn-location,rnn-additive,transformer."""
    preset: Annotated[
        str | None,
        preset_flag(PRESETS, "Sizes and rates. Default: characters with the character tokenizer, else tiny."),
    ] = None

    init: Path | None = None
    """Continue from a translator: a run of one model, or the folder of one model in a run. Its sizes and tokenizers
    stay; what these do not know is counted."""
    tokenizer: Literal["character", "bpe"] | None = None
    """bpe takes the texts for sentences, which are scored by BLEU; character for short strings, which must match
    exactly. Default: what the texts look like, which the job says."""
    vocab_size: VocabSize | None = None
    """Tokens of a bpe vocabulary. Default: 8,000, or 2,000 more than the texts have characters."""
    joint: bool = True
    """One bpe vocabulary for source and target, and one embedding table in a Transformer, rather than two."""
    max_length: Count | None = None
    """Training pairs with more tokens on either side are left out. Default: 128 with bpe, no limit with character."""

    lr: LearningRate | None = None
    """Peak learning rate. The defaults of this flag and the next six were chosen on validation data, for each model
    and optimizer."""
    optimizer: Literal["adamw", "muon"] | None = None
    """muon, for the transformer only: Muon for the matrices inside its blocks, AdamW for the rest."""
    warmup_steps: CountOrZero | None = None
    """Steps in which the learning rate rises to its peak."""
    dropout: Share | None = None
    label_smoothing: Share | None = None
    """The share of each target's probability that training spreads over the whole vocabulary."""
    max_tokens: Count | None = None
    """Source and target tokens in a batch, padding included."""
    pool: Count | None = None
    """Pairs are sorted by length within this many batches at a time: more batches waste less on padding, but mix less.
    On dates the length gives the format away, and 1 learns best."""
    accumulate: Accumulate = 1
    """Batches in a step, for each process."""
    evaluations: Count | None = None
    """Evaluations on the validation split, evenly over the run. Default: 40; on sentences and on dates in several
    locales 12."""
    patience: Count | None = None
    """Stop after this many evaluations without a better one. Default: train to the end."""
    choose_by: Literal["score", "loss"] = "score"
    """The best weights have the highest exact match or BLEU on validation, or the lowest loss."""
    average: Count | None = None
    """Average the weights of this many evaluations, and keep the mean if it scores better on validation than the best
    one. Default: 5 on sentences; 1, which keeps the best one, on short strings."""
    average_of: Literal["best", "last"] = "best"
    """Which evaluations to average."""
    samples: bool = True
    """Show three translations of validation texts at each evaluation, and keep them in samples.jsonl."""

    beam: Annotated[int, Range(at_least=1, at_most=1000)] | None = None
    """Beam size of the final translations; 1 is greedy, as during training. Default: 5; on short strings 1."""
    alpha: Annotated[float, Range(at_least=0, at_most=10)] = ALPHA
    """Length penalty of the beam (Wu et al. 2016): 0 for none; more prefers longer translations."""

    def validate(self) -> None:
        super().validate()
        if self.init is not None:
            of_init = ("models", "preset", "tokenizer", "vocab_size", "joint", "dropout", "label_smoothing")
            self.refuse_idle(f"beside --init {self.init}", *of_init)
        self.check_models(self.preset)

    @property
    def tokenizer_kind(self) -> str | None:
        """The tokenizer of these flags, unless the texts decide."""
        if self.tokenizer is not None:
            return self.tokenizer
        if self.data in ("dates", "recall"):
            return "character"
        return None if self.preset is None else PRESETS[self.preset].tokenizer

    @property
    def several_locales(self) -> bool:
        return self.locales is not None and len(locale_names(self.locales)) > 1

    def model_names(self, preset: str | None) -> list[str]:
        default = "rnn-location,rnn-additive,transformer" if preset == "characters" else "transformer"
        return distinct("--models", default if self.models is None else self.models)

    def check_models(self, preset: str | None) -> None:
        """Raises `InputError` for a model that the preset has no recipe for; None stands for all presets."""
        known = {name for each in ([preset] if preset else PRESETS) for name in PRESETS[each].recipes}
        if unknown := [name for name in self.model_names(preset) if name not in known]:
            where = f" in --preset {preset}" if preset else ""
            raise InputError(f"--models {','.join(unknown)}: the models{where} are {', '.join(sorted(known))}")
        recurrent = [name for name in self.model_names(preset) if name != "transformer"]
        if self.optimizer == "muon" and recurrent and preset is not None:
            raise InputError(f"--optimizer muon is for the transformer, not for {', '.join(recurrent)}")

    def overruled(self) -> str:
        """One line about the flags that replace parts of the recipes of --preset; "" if there are none."""
        parts = ("lr", "optimizer", "warmup_steps", "dropout", "label_smoothing", "max_tokens", "pool")
        given = [f"{flag_name(name)} {getattr(self, name)}" for name in parts if getattr(self, name) is not None]
        return f"--preset {self.preset}: {', '.join(given)} instead of its own" if self.preset and given else ""

    def recipes(self, preset: str) -> dict[str, Recipe]:
        """The recipe of each model, with the values that flags give."""
        self.check_models(preset)
        flags = {"lr": self.lr, "max_tokens": self.max_tokens, "pool": self.pool, "warmup_steps": self.warmup_steps}
        given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
        recipes = {}
        for name in self.model_names(preset):
            recipe = recipe_for(name, preset, "locales" if self.several_locales else self.data)
            if self.optimizer is not None:
                recipe = recipe.with_optimizer(self.optimizer)
            recipes[name] = replace(recipe, **given)
        return recipes
