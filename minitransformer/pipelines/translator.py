"""Text in, text out: an encoder-decoder with the tokenizers it was trained with."""

import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.beam import ALPHA, MOST_BEAMS
from minitransformer.checks import require_given, require_whole
from minitransformer.decodable import MOST_NEW_TOKENS, warn_in_training
from minitransformer.errors import InputError
from minitransformer.generation import beam_search
from minitransformer.models import RNNSeq2Seq, Transformer
from minitransformer.page.recording import Decoded, decoded, noted, require_attention, steps_of
from minitransformer.page.views import Kind, View, grids_of, kind_of
from minitransformer.pipelines import base
from minitransformer.tokenization import EOS, load_tokenizer, num_ids, special_id, token_texts, unknown_characters

SHARED, SEPARATE = "tokenizer.json", ("source_tokenizer.json", "target_tokenizer.json")


@dataclass(frozen=True)
class Translation:
    """One translation of a line, its log probability in nats, that over the length penalty, and whether it `ended` by
    itself rather than at the most tokens that it may have."""

    text: str
    score: float
    log_probability: float
    ended: bool = True


@dataclass(frozen=True)
class Translator:
    """Translates lines of text.

    A batch has at most `batch_tokens` source tokens, padding and beams included. `block_lines` lines are read, sorted
    by length and translated before the next ones are read.
    """

    model: Transformer | RNNSeq2Seq
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    batch_tokens: int = 16384
    block_lines: int = 2048

    def __post_init__(self) -> None:
        require_given(batch_tokens=self.batch_tokens, block_lines=self.block_lines)
        require_whole("batch_tokens", self.batch_tokens, at_least=1)
        require_whole("block_lines", self.block_lines, at_least=1, at_most=sys.maxsize)
        base.require_usable(self.model, (Transformer, RNNSeq2Seq), self.source_tokenizer, self.target_tokenizer)

    @classmethod
    def load(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> "Translator":
        """A model folder of `train.translate`, or its run folder if it trained one model; `InputError` otherwise. A
        `dtype` of torch.bfloat16 takes half of the memory; torch.int8, for a Transformer on a CPU, gives weights of 8
        bits that cannot be saved."""
        folder = model_folder(Path(folder))
        model: Any = base.load_model(folder, (Transformer, RNNSeq2Seq), "which does not translate", dtype)
        sizes = (model.config.source_vocab_size, model.config.target_vocab_size)
        if (folder / SHARED).is_file():
            shared = load_tokenizer(folder / SHARED, vocab_size=min(sizes))
            return cls(model, shared, shared)
        source, target = (load_tokenizer(folder / SEPARATE[i], vocab_size=sizes[i]) for i in (0, 1))
        return cls(model, source, target)

    def save(self, folder: str | Path) -> Path:
        """Write the model, and either one `tokenizer.json` that both sides share or one file for each side."""
        tokenizers = {SHARED: self.source_tokenizer}
        if self.source_tokenizer is not self.target_tokenizer:
            tokenizers = dict(zip(SEPARATE, (self.source_tokenizer, self.target_tokenizer), strict=True))
        folder = base.save(self.model, tokenizers, folder)
        # A model saved here before may have left other files, and `load` could not tell which are right.
        for name in {SHARED, *SEPARATE} - tokenizers.keys():
            (folder / name).unlink(missing_ok=True)
        return folder

    @base.one_or_many
    def __call__(
        self,
        texts: str | Sequence[str],
        *,
        max_new_tokens: int | None = None,
        beam_size: int = 1,
        alpha: float = ALPHA,
    ) -> str | list[str]:
        """The best translation of each line, in order, by `beam_search` (one beam is greedy); blank lines stay blank.

        `max_new_tokens` defaults to the source's length and the model's `max_extra_tokens`. One warning counts the
        translations that it cuts off, one unknown characters, and one the lines longer than the model's `max_length`,
        of which the beginning is translated.
        """
        found = self.stream(texts, max_new_tokens=max_new_tokens, beam_size=beam_size, alpha=alpha)
        return [best[0].text if best else "" for best in found]

    @base.one_or_many
    def n_best(self, texts: str | Sequence[str], *, n_best: int, **options: Any) -> list[Any]:
        """The `n_best` best translations of each line, best first; none for a blank line. `options` are `stream`'s.

        Different tokens may spell the same text.
        """
        return list(self.stream(texts, n_best=n_best, **options))

    def stream(
        self,
        texts: Iterable[str],
        *,
        n_best: int = 1,
        beam_size: int = 5,
        alpha: float = ALPHA,
        max_new_tokens: int | None = None,
    ) -> Iterator[list[Translation]]:
        """The results of `n_best`, line by line. `texts` may be endless: a block of them is read at a time.

        The warnings come at the end.
        """
        require_whole("max_new_tokens", max_new_tokens, at_least=0, at_most=MOST_NEW_TOKENS)
        require_given(beam_size=beam_size)
        require_whole("beam_size", beam_size, at_least=1, at_most=MOST_BEAMS)
        options = dict(n_best=n_best, beam_size=beam_size, alpha=alpha)
        left, read = base.texts_of(texts), 0
        cut: list[int] = []
        not_ended: list[int] = []
        unknown: Counter[str] = Counter()
        while block := list(islice(left, self.block_lines)):
            if not read:
                warn_in_training(self.model)
            sources, too_long = self._encode(block)
            cut += [read + number for number in too_long]
            unknown += unknown_characters(self.source_tokenizer, [line for line in block if line.strip()])
            read += len(block)
            lengths = {row: len(sources[row]) for row, line in enumerate(block) if line.strip()}
            results: dict[int, list[Translation]] = {}
            for rows in base.batches_by_length(lengths, self.batch_tokens // beam_size):
                results |= zip(rows, self._search([sources[row] for row in rows], max_new_tokens, options), strict=True)
            not_ended += [read - len(block) + row + 1 for row in sorted(results) if not results[row][0].ended]
            yield from (results.get(row, []) for row in range(len(block)))
        base.warn_of_cut("line", len(cut), read, self.model.config.max_length - 1, cut)
        self._warn_of_end(not_ended, read, max_new_tokens)
        base.warn_of_unknown(unknown)

    def _search(
        self, sources: Sequence[Sequence[int]], max_new_tokens: int | None, options: dict[str, Any]
    ) -> list[list[Translation]]:
        ids, valid = base.padded(sources, self.model.config.pad_id, self.model.device)
        # Each line has its own limit, so that the lines beside it change nothing.
        limits = [self._limit(len(source)) if max_new_tokens is None else max_new_tokens for source in sources]
        options = options | {"vocab_size": num_ids(self.target_tokenizer)}
        with warnings.catch_warnings() if self.model.training else nullcontext():
            if self.model.training:  # `stream` has said so, once for all batches
                warnings.filterwarnings("ignore", "the model decodes in training mode")
            found = beam_search(self.model, ids, valid, max_new_tokens=torch.tensor(limits), **options)
        texts = iter(self.target_tokenizer.decode_batch([each.ids for row in found for each in row]))
        eos = self.model.config.eos_id
        return [
            [Translation(next(texts), each.score, each.log_probability, ended=each.ids[-1:] == [eos]) for each in row]
            for row in found
        ]

    @base.one_or_many
    def encode(self, texts: str | Sequence[str]) -> list[Any]:
        """The token ids of each line, EOS last, cut to the model's `max_length`; one warning counts the cut lines."""
        sources, cut = self._encode(texts)
        base.warn_of_cut("line", len(cut), len(texts), self.model.config.max_length - 1, cut)
        return sources

    def _encode(self, lines: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """The ids, and the numbers, from 1, of the lines that were cut."""
        eos, limit = special_id(self.source_tokenizer, EOS), self.model.config.max_length
        encodings = self.source_tokenizer.encode_batch(list(lines), add_special_tokens=False)
        cut = [number for number, encoding in enumerate(encodings, start=1) if len(encoding.ids) >= limit]
        return [[*encoding.ids[: limit - 1], eos] for encoding in encodings], cut

    def attention_map(self, line: str) -> tuple[str, list[str], list[str], Float[Tensor, "heads target source"]]:
        """The translation of a line, its source and target tokens, and where each target token looked.

        For a Transformer this is the cross-attention of the last layer. Raises `InputError` for a model without
        attention.
        """
        source_ids, found = self._decoded(line, type(self.model).__name__)
        cross = [weights for path, weights in found.maps.items() if kind_of(path) == "cross"]
        source, target = self._spelled(source_ids, found.ids)
        return self.target_tokenizer.decode(found.ids), source, target, cross[-1][0, :, :, : len(source)]

    def view(self, text: str, *, title: str | None = None) -> View:
        """Where every head looked while the line was translated greedily, for `attention_page`; the `title` is that of
        the model. Raises `InputError` for a blank line and for a model without attention."""
        title = title or type(self.model).__name__
        with noted() as notes:
            source_ids, found = self._decoded(text, title)
        source, target = self._spelled(source_ids, found.ids)
        read = [str(self.target_tokenizer.id_to_token(self.model.config.bos_id)), *target[:-1]]
        steps = range(len(target))
        grids = grids_of(
            found.maps,
            {"encoder": (source, source), "decoder": (read, read), "cross": (target, source)},
            {"decoder": steps, "cross": steps},
        )
        return View(title, text, grids, steps_of(self.target_tokenizer, [], found), tuple(notes))

    def map_sizes(self, text: str) -> dict[Kind, tuple[int, int]]:
        """The most queries and keys of the maps of `view(text)`, by their kind, without running the model."""
        [source_ids] = self.encode([text])
        read, written = len(source_ids), self._limit(len(source_ids))
        return {"encoder": (read, read), "decoder": (written, written), "cross": (written, read)}

    def _decoded(self, line: str, title: str) -> tuple[list[int], Decoded]:
        """The ids of a line, and its greedy translation."""
        base.require_text(line)
        require_attention(self.model, title)
        if not line.strip():
            raise InputError("the line is empty: there is no attention to show")
        [source_ids] = self.encode([line])
        ids, valid = base.padded([source_ids], self.model.config.pad_id, self.model.device)
        limit, size = self._limit(len(source_ids)), num_ids(self.target_tokenizer)
        found = decoded(self.model, ids, valid, max_new_tokens=limit, vocab_size=size)
        base.warn_of_unknown(unknown_characters(self.source_tokenizer, [line]))
        self._warn_of_end([] if found.ids[-1] == self.model.config.eos_id else [1], 1, None, way_out="")
        return source_ids, found

    def _spelled(self, source_ids: Sequence[int], target_ids: Sequence[int]) -> tuple[list[str], list[str]]:
        return token_texts(self.source_tokenizer, source_ids), token_texts(self.target_tokenizer, target_ids)

    def _limit(self, source_length: int) -> int:
        """The most tokens of a translation, unless a call says otherwise."""
        c = self.model.config
        limit = source_length + c.max_extra_tokens
        return min(limit, c.max_length) if getattr(c, "positions", None) == "learned" else limit

    def _warn_of_end(
        self,
        not_ended: Sequence[int],
        count: int,
        max_new_tokens: int | None,
        way_out: str = " (max_new_tokens= sets another limit)",
    ) -> None:
        extra = f"{self.model.config.max_extra_tokens} tokens more than their source"
        limit = extra if max_new_tokens is None else f"{max_new_tokens} tokens"
        if not_ended:
            warnings.warn(
                f"{len(not_ended):,} of {count:,} translations are cut off at {limit}{way_out}: "
                f"line {base.listed(not_ended)}",
                stacklevel=3,
            )


def model_folder(folder: Path) -> Path:
    """`folder`, or the one model in a run folder."""
    if not folder.is_dir() or (folder / "model.safetensors").is_file():
        return folder
    inside = sorted(path.parent.name for path in folder.glob("*/model.safetensors"))
    if len(inside) > 1:
        raise InputError(f"{folder} holds several models: give one of them, {folder}/{{{','.join(inside)}}}")
    return folder / inside[0] if inside else folder
