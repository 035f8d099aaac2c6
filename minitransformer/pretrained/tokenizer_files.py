"""A tokenizer beside an exported checkpoint: `tokenizer.json`, and what `transformers` reads of it elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from minitransformer.errors import InputError
from minitransformer.files import atomic, write_json


def special_tokens(tokenizer: Tokenizer, vocab_size: int, token_ids: Mapping[str, int | None]) -> dict[str, str]:
    """What `transformers` calls the tokenizer's special tokens: the model's by their ids, the others by their names."""
    vocabulary = tokenizer.get_vocab()
    if (largest := max(vocabulary.values())) >= vocab_size:
        raise InputError(f"the tokenizer has ids up to {largest}, the model only vocab_size={vocab_size} of them")
    names = {
        role: next(token for token in usual if token in vocabulary)
        for role, usual in {"pad_token": ("[PAD]", "<pad>"), "unk_token": ("[UNK]", "<unk>")}.items()
        if any(token in vocabulary for token in usual)
    }
    for role, token_id in token_ids.items():
        token = None if token_id is None else tokenizer.id_to_token(token_id)
        if token_id is not None and token is None:
            raise InputError(f"the tokenizer has no token of the model's {role}={token_id}")
        if token is not None:
            names[role.removesuffix("_id")] = token
    return names


def write_causal_tokenizer(tokenizer: Tokenizer, names: Mapping[str, str], folder: Path, max_length: int) -> None:
    """For a model that goes on from a text, which then must not end in [EOS]."""
    if tokenizer.num_special_tokens_to_add(False):
        tokenizer = Tokenizer.from_str(tokenizer.to_str())
        tokenizer.post_processor = None
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    # `transformers` makes added tokens of the special ones. Where ours are none, "[PAD]" in a text stays text.
    _write(tokenizer, folder, max_length, {"split_special_tokens": not added.intersection(names.values()), **names})


def write_masked_tokenizer(
    tokenizer: Tokenizer, names: Mapping[str, str], folder: Path, max_length: int, *, has_segments: bool
) -> None:
    """For a model of masked tokens, whose mask a text may spell: "[MASK]" or "<mask>", which takes the space before it
    with it. Pairs come with `token_type_ids` if the model `has_segments` and the tokenizer tells two texts apart."""
    settings: dict[str, Any] = {"split_special_tokens": False, **names}
    if "mask_token" in names:
        settings["mask_token"] = {
            "__type": "AddedToken",
            "content": names["mask_token"],
            "lstrip": True,
            "rstrip": False,
            "single_word": False,
            "normalized": False,
            "special": True,
        }
    segments = ["token_type_ids"] if has_segments and any(tokenizer.encode("a", "a").type_ids) else []
    settings["model_input_names"] = ["input_ids", *segments, "attention_mask"]
    _write(tokenizer, folder, max_length, settings)


def _write(tokenizer: Tokenizer, folder: Path, max_length: int, settings: Mapping[str, Any]) -> None:
    with atomic(folder / "tokenizer.json") as temporary:
        tokenizer.save(str(temporary))
    common = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,  # to take out spaces before a full stop was once the default
    }
    write_json(folder / "tokenizer_config.json", common | dict(settings))
