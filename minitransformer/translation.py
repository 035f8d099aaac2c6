"""Text in, text out: an encoder-decoder with the tokenizers it was trained with."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.attention import record_attention
from minitransformer.data.batching import pad
from minitransformer.errors import InputError
from minitransformer.files import atomic
from minitransformer.generation import greedy
from minitransformer.models import RNNSeq2Seq, Transformer
from minitransformer.tokenization import EOS, load_tokenizer, special_id, unknown_characters


@dataclass(frozen=True)
class Translator:
    """Translates lines greedily. `batch_tokens` bounds the source tokens, padding included, that run at once."""

    model: Transformer | RNNSeq2Seq
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    batch_tokens: int = 8192

    @classmethod
    def load(cls, folder: str | Path) -> "Translator":
        """A model folder as `train.translate` writes it; `InputError` for anything else."""
        import minitransformer

        folder = Path(folder)
        model = minitransformer.load(folder)
        if not isinstance(model, Transformer | RNNSeq2Seq):
            raise InputError(f"{folder} holds a {type(model).__name__}, which does not translate")
        source, target = (load_tokenizer(folder / f"{side}_tokenizer.json") for side in ("source", "target"))
        for side, tokenizer, size in (
            ("source", source, model.config.source_vocab_size),
            ("target", target, model.config.target_vocab_size),
        ):
            if tokenizer.get_vocab_size() != size:
                raise InputError(
                    f"{folder}: {side}_tokenizer.json has {tokenizer.get_vocab_size()} tokens, its model has {size}"
                )
        return cls(model, source, target)

    def save(self, folder: str | Path) -> Path:
        """Write the model, `source_tokenizer.json` and `target_tokenizer.json`."""
        folder = self.model.save(folder)
        for side, tokenizer in (("source", self.source_tokenizer), ("target", self.target_tokenizer)):
            with atomic(folder / f"{side}_tokenizer.json") as temporary:
                tokenizer.save(str(temporary))
        return folder

    def __call__(self, lines: Sequence[str], *, max_new_tokens: int | None = None) -> list[str]:
        """One translation a line, in order; an empty line stays empty. `max_new_tokens` is 50 over the source's
        length by default, as in Vaswani et al. 2017. Unknown characters are counted in a warning.

        Raises `InputError` for a line longer than the model's `max_length`.
        """
        sources = self.encode(lines)
        self._warn_of_unknown([line for line in lines if line.strip()])
        results = [""] * len(lines)
        # Neighbours in length run together, so that little is padding.
        waiting = sorted((i for i, line in enumerate(lines) if line.strip()), key=lambda i: len(sources[i]))
        while waiting:
            longest = len(sources[waiting[-1]])
            size = max(1, self.batch_tokens // longest)
            rows, waiting = waiting[-size:], waiting[:-size]
            limits = [self._limit(len(sources[i])) if max_new_tokens is None else max_new_tokens for i in rows]
            inputs, valid = self._batch([sources[i] for i in rows])
            output = greedy(self.model, inputs, valid, max_new_tokens=max(limits)).tolist()
            # Each line within its own limit, whatever runs beside it.
            kept = [ids[:limit] for ids, limit in zip(output, limits, strict=True)]
            for row, text in zip(rows, self.target_tokenizer.decode_batch(kept), strict=True):
                results[row] = text
        return results

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The token ids of each line, with EOS at the end, checked against the model's limit."""
        eos = special_id(self.source_tokenizer, EOS)
        encodings = self.source_tokenizer.encode_batch(list(lines), add_special_tokens=False)
        limit = self.model.config.max_length
        for number, encoding in enumerate(encodings, start=1):
            if len(encoding.ids) + 1 > limit:
                raise InputError(
                    f"line {number} has {len(encoding.ids)} tokens, but the model reads {limit - 1} at most: shorten it"
                )
        return [[*encoding.ids, eos] for encoding in encodings]

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
        self._warn_of_unknown([line])
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

    def _warn_of_unknown(self, lines: Sequence[str]) -> None:
        unknown: Counter[str] = unknown_characters(self.source_tokenizer, lines)
        if unknown:
            shown = ", ".join(f"{character!r} ({count})" for character, count in unknown.most_common(5))
            warnings.warn(
                f"{unknown.total()} characters were never seen in training and read as unknown: {shown}"
                f"{', ...' if len(unknown) > 5 else ''}",
                stacklevel=3,
            )
