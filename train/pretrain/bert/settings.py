"""The flags of `python -m train.pretrain bert`, and what each objective means."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minitransformer.errors import InputError
from train.pretrain.bert.corpora import corpus_names
from train.pretrain.settings import PretrainSettings

UNITS = {"bert": "tokens", "roberta": "tokens", "albert": "ngrams"}
SENTENCE_TASKS = {"bert": "nsp", "roberta": None, "albert": "sop"}


@dataclass(frozen=True)
class BERTSettings(PretrainSettings):
    """Pretrain a masked model: its weights, `tokenizer.json` and figures go into the run folder.

    4 minutes of training if no length is given.
    """

    data: str = "reviews,bible"
    """One or several of shakespeare, reviews, bible, hub:NAME or a path, with commas: a .txt file (its last tenth is
    validation), a table with a column text, or a folder of train and validation files."""
    objective: Literal["bert", "roberta", "albert"] = "bert"
    """bert: single tokens, next sentence, WordPiece. roberta: single tokens, full sentences, byte-level BPE. albert:
    n-grams of words, sentence order, WordPiece, shared layers, narrow token vectors. All mask anew at every visit."""
    whole_words: bool = False
    """Mask whole words instead of single tokens."""
    mask_rate: float = 0.3
    """The share of tokens to predict in training: BERT's 0.15 learns less in a short run (Wettig et al. 2023). Of what
    is held out, it is always 0.15."""
    vocab_size: int | None = None
    """Trained on the training text. Default: 8,000."""

    init: Path | None = None
    """Go on from the weights, sizes and tokenizer of a run, of a folder of Hugging Face's, or of "minilm"."""
    architecture: Literal["modern", "classic"] = "modern"
    """modern: pre-norm, rotary positions, RMSNorm, QK-norm, squared ReLU, no biases, output projections that start at
    zero. classic: as published, which `export` can write for other libraries."""
    num_layers: int | None = None
    """Default: 4."""
    d_model: int | None = None
    """Default: 128."""
    num_heads: int | None = None
    """Default: 4."""
    d_ff: int | None = None
    """Default: 4 x --d-model."""
    d_embedding: int | None = None
    """Width of token vectors. Default: 128 with albert, else --d-model."""
    num_hidden_groups: int | None = None
    """Sets of parameters for the layers. Default: 1 with albert, else one for each layer."""
    context: int | None = None
    """Tokens in a row, at most. Default: 64, or what --init allows if that is less."""
    dropout: float = 0.0

    batch_tokens: int = 1024
    """Tokens in a batch, padding included, at most."""

    def validate(self) -> None:
        super().validate()
        sizes = ("num_layers", "d_model", "num_heads", "d_ff", "d_embedding", "num_hidden_groups", "vocab_size")
        self.require_positive(*sizes, "context", "batch_tokens")
        if not 0 < self.mask_rate < 1:
            raise InputError(f"--mask-rate {self.mask_rate} must lie between 0 and 1")
        if self.whole_words and self.objective == "albert":
            raise InputError("--whole-words is for --objective bert or roberta: the n-grams of albert are whole words")
        if self.init is not None:
            self.refuse_beside_init(self.init, *sizes)

    def data_names(self) -> list[str]:
        return corpus_names(self.data)
