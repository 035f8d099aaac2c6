"""The ids of special tokens that a checkpoint's files give, and whether they agree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minitransformer.errors import InputError
from minitransformer.pretrained.architecture import HubConfig
from minitransformer.tokenization import load_tokenizer
from minitransformer.untrusted import read_json, shown

ROLES = ("bos", "eos", "pad", "cls", "sep", "mask")


def ids_of_other_files(folder: Path, hub_class: type[HubConfig], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The ids that `generation_config.json` gives instead of those in `settings`, a `config.json`, and those that
    `settings` leave to `tokenizer.json`.

    Raises `InputError` where `tokenizer_config.json` names a token of another id.
    """
    found = {**_of_generation(folder, hub_class), **_of_tokenizer(folder, hub_class, settings)}
    _require_agreement(folder, hub_class, settings, found)
    return found


def _of_generation(folder: Path, hub_class: type[HubConfig]) -> dict[str, Any]:
    path = folder / "generation_config.json"
    if not hub_class.generates or not path.is_file():
        return {}
    given = _object(path)
    return {name: given[name] for name in ("bos_token_id", "eos_token_id") if given.get(name) is not None}


def _of_tokenizer(folder: Path, hub_class: type[HubConfig], settings: Mapping[str, Any]) -> dict[str, int]:
    path = folder / "tokenizer.json"
    missing = {name: tokens for name, tokens in hub_class.special_tokens.items() if settings.get(name) is None}
    if not missing or not path.exists():
        return {}
    vocabulary = load_tokenizer(path).get_vocab()
    known = {name: [vocabulary[token] for token in tokens if token in vocabulary] for name, tokens in missing.items()}
    return {name: ids[0] for name, ids in known.items() if ids}


def _require_agreement(
    folder: Path, hub_class: type[HubConfig], settings: Mapping[str, Any], found: Mapping[str, Any]
) -> None:
    path, vocabulary = folder / "tokenizer_config.json", folder / "tokenizer.json"
    if not path.is_file() or not vocabulary.is_file():
        return
    named, ids = _object(path), _ids_by_token(vocabulary)
    # A model that continues texts reads no padding: its tokenizer may pad with what it likes.
    for role in ROLES[:2] if hub_class.generates else ROLES[2:]:
        token = named.get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token
        given = [each.get(f"{role}_token_id") for each in (settings, found)]
        known = [id for ids in given if ids is not None for id in (ids if isinstance(ids, list) else [ids])]
        if isinstance(token, str) and token in ids and known and ids[token] not in known:
            says = f"{path} says {role}_token={shown(token)}, whose id is {ids[token]}"
            raise InputError(
                f"{says}, but the model's {role}_token_id is {', '.join(map(shown, known))} by config.json or "
                "generation_config.json: set the right one in both"
            )


def _ids_by_token(path: Path) -> dict[str, int]:
    """The ids of the added tokens in a `tokenizer.json`, which special tokens are, and of its vocabulary if that gives
    them by token."""
    value = _object(path)
    model, added = value.get("model"), value.get("added_tokens")
    ids = model.get("vocab") if isinstance(model, dict) else None
    ids = dict(ids) if isinstance(ids, dict) else {}
    for token in added if isinstance(added, list) else []:
        if isinstance(token, dict) and isinstance(token.get("content"), str):
            ids[token["content"]] = token.get("id")
    return ids


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}, not an object")
    return value
