"""Text with gaps in, the likeliest tokens out: a masked model with the tokenizer it was trained with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer

from minitransformer.errors import InputError
from minitransformer.models import BERT
from minitransformer.tokenization import encode_with_masks, load_tokenizer, masked_specials, special_ids


class Filling(NamedTuple):
    """A token for a gap and how probable the model finds it."""

    token: str
    probability: float


@dataclass(frozen=True)
class MaskFiller:
    """Fills the gaps of a text, [MASK] or whatever the tokenizer calls them."""

    model: BERT
    tokenizer: Tokenizer

    @classmethod
    def load(cls, folder: str | Path) -> "MaskFiller":
        """A run of `train.pretrain bert`, or a BERT, RoBERTa or ALBERT folder of Hugging Face's with its
        `tokenizer.json`; `InputError` for anything else."""
        import minitransformer

        folder = Path(folder)
        model = minitransformer.load(folder)
        if not isinstance(model, BERT):
            raise InputError(f"{folder} holds a {type(model).__name__}, which fills no gaps: that takes a BERT")
        if model.masked_head is None:
            raise InputError(f"{folder} holds a BERT without a masked-token head, which fills no gaps")
        tokenizer = load_tokenizer(folder / "tokenizer.json", vocab_size=model.config.vocab_size)
        return cls(model, tokenizer)

    @torch.inference_mode()
    def __call__(self, text: str, *, top_k: int = 5) -> list[list[Filling]]:
        """The `top_k` likeliest tokens of each gap, in order, each gap's as if the others stayed open.

        Raises `InputError` for a text without a gap, or longer than the model reads.
        """
        specials = masked_specials(self.tokenizer)
        c = self.model.config
        if not 1 <= top_k <= c.vocab_size:
            raise InputError(f"top_k={top_k} must be between 1 and the model's {c.vocab_size} tokens")
        ids = torch.tensor([encode_with_masks(self.tokenizer, text)], device=self.model.device)
        gaps = (ids[0] == specials.mask_id).nonzero().squeeze(1)
        if not len(gaps):
            raise InputError(f"there is no gap in {text[:100]!r}: write {specials.mask_token} where a word is missing")
        if ids.shape[1] > c.max_length:
            raise InputError(f"the text has {ids.shape[1]} tokens, but the model reads {c.max_length} at most")
        states = self.model(ids, torch.ones_like(ids, dtype=torch.bool))[0, gaps]
        best = self.model.predict_tokens(states).float().softmax(dim=1).topk(top_k)
        return [
            self._fillings(tokens, probabilities)
            for tokens, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _fillings(self, tokens: Sequence[int], probabilities: Sequence[float]) -> list[Filling]:
        # Special tokens decode to nothing.
        special = special_ids(self.tokenizer)
        return [
            Filling(
                str(self.tokenizer.id_to_token(token)) if token in special else self.tokenizer.decode([token]).strip(),
                probability,
            )
            for token, probability in zip(tokens, probabilities, strict=True)
        ]
