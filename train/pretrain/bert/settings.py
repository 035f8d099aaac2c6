"""The flags of `python -m train.pretrain bert`, and what each objective means."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from minitransformer.checks import Count, Range
from minitransformer.errors import InputError
from minitransformer.models.bert_config import SentenceTask
from train.engine.presets import preset_flag
from train.engine.settings import VocabSize
from train.pretrain.bert.corpora import corpus_names
from train.pretrain.bert.presets import PRESETS
from train.pretrain.settings import PretrainSettings

SENTENCE_TASKS: dict[str, SentenceTask | None] = {"bert": "nsp", "roberta": None, "albert": "sop"}
"""What each objective predicts of a pair of sentences: next sentence, nothing, or sentence order."""


@dataclass(frozen=True)
class BERTSettings(PretrainSettings):
    """Pretrain a masked model. Its weights, `tokenizer.json` and figures go into the run folder.

    Trains for 4 minutes if neither --minutes nor --steps is given.
    """

    presets: ClassVar = PRESETS

    preset: Annotated[str | None, preset_flag(PRESETS, "A recipe by its name. Other flags overrule it.")] = None
    data: str = "reviews,bible"
    """One or more of shakespeare, reviews, bible, hub:NAME or a path, separated by commas: a .txt file (its last tenth
    is validation), a table with a column text, a folder of train and validation files, any other folder, of which every
    .txt, .md and .py file is a text, or a glob of such files."""
    objective: Literal["bert", "roberta", "albert"] = "bert"
    """bert: single tokens, next sentence, WordPiece. roberta: single tokens, full sentences, byte-level BPE. albert:
    n-grams of words, sentence order, WordPiece, shared layers, narrow token vectors. Each epoch has new masks."""
    cased: bool = False
    """Keep capital letters in a new WordPiece vocabulary."""
    strip_accents: bool = False
    """Take accents, umlauts and other marks away, as lower-case BERT does: "schön" becomes "schon", and the vowels of
    Hindi are lost."""
    vocab_size: VocabSize = 8000
    """The size of a new vocabulary, trained on the training text."""
    whole_words: bool = False
    """Mask whole words instead of single tokens."""
    mask_rate: Annotated[float, Range(more_than=0, less_than=1)] = 0.3
    """The share of training tokens to predict: BERT's 0.15 learns less in a short run (Wettig et al. 2023). On held-out
    text it is always 0.15."""
    architecture: Literal["modern", "classic"] = "modern"
    """modern: pre-norm, rotary positions, RMSNorm, QK-norm, squared ReLU, no biases, output projections that start at
    zero. classic: as published, which `export` can write for other libraries."""
    d_embedding: Count | None = None
    """Width of token vectors. Default: 128 with albert, else --d-model."""
    num_hidden_groups: Count | None = None
    """Sets of parameters for the layers. Default: 1 with albert, else one for each layer."""
    batch_tokens: Count = 1024
    """The largest batch, in tokens, padding included."""

    sizes: ClassVar = (*PretrainSettings.sizes, "d_embedding", "num_hidden_groups")

    def validate(self) -> None:
        super().validate()
        if self.init is not None:
            self.refuse_idle(f"beside --init {self.init}", "cased", "strip_accents")
        if self.objective == "roberta":
            self.refuse_idle("with --objective roberta", "cased", "strip_accents")
        if self.whole_words and self.objective == "albert":
            raise InputError("--whole-words is for --objective bert or roberta: the n-grams of albert are whole words")

    def data_names(self) -> list[str]:
        return corpus_names(self.data)

    @property
    def mask_units(self) -> str:
        """The units that are masked: see `mask_tokens`."""
        return "words" if self.whole_words else "ngrams" if self.objective == "albert" else "tokens"
