"""The tokenizer files of an exported checkpoint: `tokenizer.json`, and `tokenizer_config.json` for `transformers`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from minitransformer.errors import InputError
from minitransformer.files import atomic, write_json


def special_tokens(
    tokenizer: Tokenizer, vocab_size: int, token_ids: Mapping[str, int | list[int] | None]
) -> dict[str, str]:
    """The special tokens by the names of `transformers`: the model's are found by id, padding and unknown by name."""
    vocabulary = tokenizer.get_vocab()
    if (largest := max(vocabulary.values())) >= vocab_size:
        raise InputError(f"the tokenizer has ids up to {largest}, the model only vocab_size={vocab_size} of them")
    usual = {"<pad>": "pad_token", "[PAD]": "pad_token", "<unk>": "unk_token", "[UNK]": "unk_token"}
    names = {role: token for token, role in usual.items() if token in vocabulary}
    for role, given in token_ids.items():
        token_id = given[0] if isinstance(given, list) else given
        if token_id is None:
            continue
        token = tokenizer.id_to_token(token_id)
        if token is None:
            raise InputError(f"the tokenizer has no token of the model's {role}={token_id}")
        names[role.removesuffix("_id")] = token
    return names


def write_tokenizer(
    tokenizer: Tokenizer,
    names: Mapping[str, str],
    folder: Path,
    max_length: int,
    *,
    generates: bool,
    has_segments: bool,
    frame: tuple[int, int] | None = None,
) -> None:
    """A model that `generates` continues a text, which must therefore not end in [EOS]. A text for a masked model may
    spell the mask, "[MASK]" or "<mask>", which includes the space before it. Pairs get `token_type_ids` if the model
    `has_segments` and the tokenizer distinguishes two texts. The two ids of a `frame` stand around each text."""
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,  # True, an earlier default, removes spaces before a full stop
        **names,
    }
    if generates:
        if tokenizer.encode("a").special_tokens_mask[-1:] == [1]:
            tokenizer = Tokenizer.from_str(tokenizer.to_str())
            tokenizer.post_processor = None
        added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        # `transformers` makes added tokens of the special ones; split_special_tokens keeps "[PAD]" in a text a text.
        settings["split_special_tokens"] = not added.intersection(names.values())
    else:
        settings["split_special_tokens"] = False
        if frame is not None and [tokenizer.encode("a").ids[place] for place in (0, -1)] != list(frame):
            first, last = marks = [str(tokenizer.id_to_token(id)) for id in frame]
            tokenizer = Tokenizer.from_str(tokenizer.to_str())
            options = {"single": f"{first} $A {last}", "special_tokens": list(zip(marks, frame, strict=True))}
            tokenizer.post_processor = TemplateProcessing(**options)
        if mask := names.get("mask_token"):
            settings["mask_token"] = {"__type": "AddedToken", "content": mask, "lstrip": True, "special": True}
        segments = ["token_type_ids"] if has_segments and any(tokenizer.encode("a", "a").type_ids) else []
        settings["model_input_names"] = ["input_ids", *segments, "attention_mask"]
    with atomic(folder / "tokenizer.json") as temporary:
        tokenizer.save(str(temporary))
    write_json(folder / "tokenizer_config.json", settings)
