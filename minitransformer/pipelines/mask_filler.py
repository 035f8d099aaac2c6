"""Text with gaps in, the likeliest tokens out: a masked model with the tokenizer it was trained with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer

from minitransformer.attention import record_attention
from minitransformer.checks import require_given, require_whole
from minitransformer.decodable import require_scores, warn_in_training
from minitransformer.errors import InputError
from minitransformer.models import BERT
from minitransformer.page.recording import best_of, noted
from minitransformer.page.views import Kind, Step, View, grids_of
from minitransformer.pipelines import base
from minitransformer.tokenization import (
    encode_with_masks,
    masked_specials,
    num_ids,
    special_ids,
    token_texts,
    unknown_characters,
)


class Filling(NamedTuple):
    """A token for a gap and its probability."""

    token: str
    probability: float


@dataclass(frozen=True)
class MaskFiller:
    """Fills the gaps of a text, which it spells as the tokenizer does: [MASK] or <mask>."""

    model: BERT
    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        base.require_usable(self.model, (BERT,), self.tokenizer)

    @classmethod
    def load(cls, folder: str | Path) -> "MaskFiller":
        """A run of `train.pretrain bert`, or a BERT, RoBERTa or ALBERT checkpoint of Hugging Face with its
        `tokenizer.json`; `InputError` for anything else."""
        model, tokenizer = base.load_with_tokenizer(folder, BERT, "which fills no gaps: take a BERT")
        if model.masked_head is None:
            raise InputError(f"{folder} holds a BERT without a masked-token head, which fills no gaps")
        return cls(model, tokenizer)

    def save(self, folder: str | Path) -> Path:
        """Write the model and `tokenizer.json`."""
        return base.save(self.model, {"tokenizer.json": self.tokenizer}, folder)

    @base.one_or_many
    @torch.inference_mode()
    def __call__(self, texts: str | Sequence[str], *, top_k: int = 5) -> list[Any]:
        """For each gap of each text, in order, the `top_k` likeliest tokens; each gap is filled while the others stay
        open.

        Raises `InputError` for a text without a gap, or longer than the model reads.
        """
        require_given(top_k=top_k)
        require_whole("top_k", top_k, at_least=1, at_most=num_ids(self.tokenizer))
        self._warn(texts)
        return [self._fill(text, top_k) for text in texts]

    @torch.inference_mode()
    def view(self, text: str, *, title: str | None = None) -> View:
        """Where every head looked in the text, and the likeliest tokens for each gap, for `attention_page`; the `title`
        is that of the model. A text without a gap, or a model without a head for them, has none."""
        base.require_text(text)
        c, specials = self.model.config, masked_specials(self.tokenizer)
        row = encode_with_masks(self.tokenizer, text)
        with noted() as notes:
            self._warn([text])
            base.warn_of_cut("text", len(row) > c.max_length, 1, c.max_length)
            row = row if len(row) <= c.max_length else [*row[: c.max_length - 1], specials.sep_id]
            ids = torch.tensor([row], device=self.model.device)
            with record_attention(self.model) as maps:
                states = self.model(ids, torch.ones_like(ids, dtype=torch.bool))[0]
        gaps = [place for place, token in enumerate(row) if token == specials.mask_id and self.model.masked_head]
        special, steps = special_ids(self.tokenizer), []
        if gaps:
            for logits in self.model.predict_tokens(states[gaps])[:, : num_ids(self.tokenizer)]:
                best = ((self._spelled(token, token in special), share) for token, share in best_of(logits))
                steps.append(Step(text, tuple(best)))
        tokens = token_texts(self.tokenizer, row)
        grids = grids_of(maps, {"encoder": (tokens, tokens)}, {"encoder": gaps})
        return View(title or type(self.model).__name__, text, grids, tuple(steps), tuple(notes))

    def map_sizes(self, text: str) -> dict[Kind, tuple[int, int]]:
        """The most queries and keys of the maps of `view(text)`, by their kind, without running the model."""
        count = min(len(encode_with_masks(self.tokenizer, text)), self.model.config.max_length)
        return {"encoder": (count, count)}

    def _warn(self, texts: Sequence[str]) -> None:
        warn_in_training(self.model)
        mask = masked_specials(self.tokenizer).mask_token
        base.warn_of_unknown(unknown_characters(self.tokenizer, [text.replace(mask, " ") for text in texts]))

    def _fill(self, text: str, top_k: int) -> list[list[Filling]]:
        c, specials = self.model.config, masked_specials(self.tokenizer)
        ids = torch.tensor([encode_with_masks(self.tokenizer, text)], device=self.model.device)
        gaps = (ids[0] == specials.mask_id).nonzero().squeeze(1)
        if not len(gaps):
            raise InputError(f"there is no gap in {text[:100]!r}: write {specials.mask_token} where a word is missing")
        if ids.shape[1] > c.max_length:
            raise InputError(f"the text has {ids.shape[1]} tokens, but the model reads {c.max_length} at most")
        states = self.model(ids, torch.ones_like(ids, dtype=torch.bool))[0, gaps]
        logits = self.model.predict_tokens(states).float()[:, : num_ids(self.tokenizer)]
        probabilities = logits.softmax(dim=1)
        require_scores(probabilities)
        best = probabilities.topk(top_k)
        special = special_ids(self.tokenizer)
        return [
            [
                Filling(self._spelled(token, token in special), probability)
                for token, probability in zip(tokens, probabilities, strict=True)
            ]
            for tokens, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _spelled(self, token: int, is_special: bool) -> str:
        """The token as text; a special token, which decodes to nothing, by its name."""
        return str(self.tokenizer.id_to_token(token)) if is_special else self.tokenizer.decode([token]).strip()
