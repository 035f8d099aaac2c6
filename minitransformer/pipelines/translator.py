"""Text in, text out: an encoder-decoder with the tokenizers it was trained with."""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.attention import record_attention
from minitransformer.errors import InputError
from minitransformer.files import atomic
from minitransformer.generation import beam_search, greedy
from minitransformer.models import RNNSeq2Seq, Transformer
from minitransformer.text_encoding import pad
from minitransformer.tokenization import EOS, load_tokenizer, special_id, unknown_characters

SHARED, SEPARATE = "tokenizer.json", ("source_tokenizer.json", "target_tokenizer.json")
STREAMED = 2048
"""How many lines are read and sorted by length together, and done before the next."""


@dataclass(frozen=True)
class Translation:
    """One of a line's translations, with its log probability in nats, and that over the length penalty."""

    text: str
    score: float
    log_probability: float


@dataclass(frozen=True)
class Translator:
    """Translates lines. `batch_tokens` bounds the source tokens that run at once, padding and beams included."""

    model: Transformer | RNNSeq2Seq
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    batch_tokens: int = 16384

    @classmethod
    def load(cls, folder: str | Path) -> "Translator":
        """A model folder as `train.translate` writes it, or a run of it that trained one model; `InputError` for
        anything else."""
        import minitransformer

        folder = _model_folder(Path(folder))
        model = minitransformer.load(folder)
        if not isinstance(model, Transformer | RNNSeq2Seq):
            raise InputError(f"{folder} holds a {type(model).__name__}, which does not translate")
        if (folder / SHARED).is_file():
            names = (SHARED, SHARED)
            source = target = load_tokenizer(folder / SHARED)
        else:
            names = SEPARATE
            source, target = (load_tokenizer(folder / name) for name in names)
        sizes = (model.config.source_vocab_size, model.config.target_vocab_size)
        for name, tokenizer, side, size in zip(names, (source, target), ("source", "target"), sizes, strict=True):
            if (count := tokenizer.get_vocab_size()) != size:
                raise InputError(f"{folder}: {name} has {count} tokens, its model's {side} vocabulary {size}")
            if (largest := max(tokenizer.get_vocab().values(), default=-1)) >= size:
                raise InputError(f"{folder}: {name} has ids up to {largest}, its model knows 0 to {size - 1}")
        return cls(model, source, target)

    def save(self, folder: str | Path) -> Path:
        """Write the model, and `source_tokenizer.json` and `target_tokenizer.json`; or one `tokenizer.json` where both
        sides have the same tokenizer."""
        folder = self.model.save(folder)
        shared = self.source_tokenizer is self.target_tokenizer
        tokenizers = {SHARED: self.source_tokenizer}
        if not shared:
            tokenizers = dict(zip(SEPARATE, (self.source_tokenizer, self.target_tokenizer), strict=True))
        for name, tokenizer in tokenizers.items():
            with atomic(folder / name) as temporary:
                tokenizer.save(str(temporary))
        # Of an earlier model in this folder: `load` would not know which to believe.
        for name in {SHARED, *SEPARATE} - tokenizers.keys():
            (folder / name).unlink(missing_ok=True)
        return folder

    def __call__(
        self, lines: Sequence[str], *, max_new_tokens: int | None = None, beam_size: int = 1, alpha: float = 0.6
    ) -> list[str]:
        """One translation a line, in order, found by `beam_search`, which with one beam is greedy; a blank line stays
        blank. `max_new_tokens` is 50 over the source's length by default, as in Vaswani et al. 2017.

        Unknown characters are counted in a warning, and so are lines longer than the model's `max_length`, of which
        the beginning is translated.
        """
        found = self.stream(lines, max_new_tokens=max_new_tokens, beam_size=beam_size, alpha=alpha)
        return [best[0].text if best else "" for best in found]

    def n_best(
        self,
        lines: Sequence[str],
        *,
        n_best: int,
        beam_size: int = 5,
        alpha: float = 0.6,
        max_new_tokens: int | None = None,
    ) -> list[list[Translation]]:
        """The `n_best` best translations of each line, best first; of a blank line there are none. Different tokens
        may spell the same text."""
        options: dict[str, Any] = dict(n_best=n_best, beam_size=beam_size, alpha=alpha)
        return list(self.stream(lines, max_new_tokens=max_new_tokens, **options))

    def stream(
        self,
        lines: Iterable[str],
        *,
        n_best: int = 1,
        beam_size: int = 5,
        alpha: float = 0.6,
        max_new_tokens: int | None = None,
    ) -> Iterator[list[Translation]]:
        """What `n_best` gives, line by line, as soon as it is there. Lines are read as they are needed, so that there
        may be any number of them; what there is to warn of is counted, and said at the end."""
        options = dict(n_best=n_best, beam_size=beam_size, alpha=alpha)
        left, read = iter(lines), 0
        long: list[int] = []
        unknown: Counter[str] = Counter()
        while block := list(islice(left, STREAMED)):
            sources, cut = self._encoded(block)
            long += [read + place for place in cut]
            unknown += unknown_characters(self.source_tokenizer, [line for line in block if line.strip()])
            read += len(block)
            results: dict[int, list[Translation]] = {}
            # Neighbours in length run together, so that little is padding.
            waiting = sorted((i for i, line in enumerate(block) if line.strip()), key=lambda i: len(sources[i]))
            while waiting:
                size = max(1, self.batch_tokens // (len(sources[waiting[-1]]) * max(1, beam_size)))
                rows, waiting = waiting[-size:], waiting[:-size]
                results |= zip(rows, self._search([sources[i] for i in rows], max_new_tokens, options), strict=True)
            yield from (results.get(i, []) for i in range(len(block)))
        self._warn_of_long(long, read)
        self._warn_of_unknown(unknown)

    def _search(
        self, sources: Sequence[Sequence[int]], max_new_tokens: int | None, options: dict[str, Any]
    ) -> list[list[Translation]]:
        inputs, valid = self._batch(sources)
        # Each line within its own limit, whatever runs beside it.
        limits = [self._limit(len(source)) if max_new_tokens is None else max_new_tokens for source in sources]
        found = beam_search(self.model, inputs, valid, max_new_tokens=torch.tensor(limits), **options)
        texts = iter(self.target_tokenizer.decode_batch([each.ids for row in found for each in row]))
        return [[Translation(next(texts), each.score, each.log_probability) for each in row] for row in found]

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The token ids of each line, with EOS at the end. Of more than the model reads, the first are kept, with a
        warning that counts such lines."""
        sources, long = self._encoded(lines)
        self._warn_of_long(long, len(lines))
        return sources

    def _encoded(self, lines: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """What `encode` gives, and which lines were cut, counted from 1."""
        eos, limit = special_id(self.source_tokenizer, EOS), self.model.config.max_length
        encodings = self.source_tokenizer.encode_batch(list(lines), add_special_tokens=False)
        long = [number for number, encoding in enumerate(encodings, start=1) if len(encoding.ids) >= limit]
        return [[*encoding.ids[: limit - 1], eos] for encoding in encodings], long

    def attention_map(self, line: str) -> tuple[str, list[str], list[str], Float[Tensor, "heads target source"]]:
        """The translation of a line, its source and target tokens, and where each target token looked.

        Of a Transformer's decoder this is the last layer's cross-attention. A model without attention is refused.
        """
        if not line.strip():
            raise InputError("there is nothing to look at in an empty line")
        inputs, valid = self._batch(self.encode([line]))
        with record_attention(self.model) as maps:
            output = greedy(self.model, inputs, valid, max_new_tokens=self._limit(inputs.shape[1]))
        cross = [weights for path, weights in maps.items() if path.endswith(("cross_attention", "decoder.attention"))]
        if not cross:
            raise InputError("this model has no attention to look at")
        self._warn_of_unknown(unknown_characters(self.source_tokenizer, [line]))
        target_ids = output[0].tolist()
        source = [str(self.source_tokenizer.id_to_token(i)) for i in inputs[0].tolist()]
        target = [str(self.target_tokenizer.id_to_token(i)) for i in target_ids]
        text = self.target_tokenizer.decode(target_ids)
        return text, source, target, cross[-1][0, :, :, : len(source)]

    def _limit(self, source_length: int) -> int:
        """How many tokens a translation may have."""
        learned = getattr(self.model.config, "positions", None) == "learned"
        return min(source_length + 50, self.model.config.max_length) if learned else source_length + 50

    def _batch(self, sources: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(source) for source in sources])
        inputs = pad(sources, self.model.config.pad_id)
        valid = torch.arange(inputs.shape[1]) < lengths[:, None]
        return inputs.to(self.model.device), valid.to(self.model.device)

    def _warn_of_long(self, long: Sequence[int], count: int) -> None:
        if long:
            shown = ", ".join(map(str, long[:10])) + (", ..." if len(long) > 10 else "")
            warnings.warn(
                f"{len(long)} of {count} lines are longer than the {self.model.config.max_length - 1} tokens that the "
                f"model reads, and are translated up to there: line {shown}",
                stacklevel=3,
            )

    def _warn_of_unknown(self, unknown: Counter[str]) -> None:
        if unknown:
            shown = ", ".join(f"{character!r} ({count})" for character, count in unknown.most_common(5))
            warnings.warn(
                f"{unknown.total()} characters were never seen in training and read as unknown: {shown}"
                f"{', ...' if len(unknown) > 5 else ''}",
                stacklevel=3,
            )


def _model_folder(folder: Path) -> Path:
    """`folder`, or the one model in a folder of models."""
    if not folder.is_dir() or (folder / "model.safetensors").is_file():
        return folder
    inside = sorted(path.parent.name for path in folder.glob("*/model.safetensors"))
    if len(inside) > 1:
        raise InputError(f"{folder} holds several models: give one of them, {folder}/{{{','.join(inside)}}}")
    return folder / inside[0] if inside else folder
