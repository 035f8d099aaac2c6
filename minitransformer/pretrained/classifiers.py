"""Classification heads of Hugging Face, read and written: in the format of `...ForSequenceClassification`, or, for
poolings that it lacks, in a folder of sentence-transformers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.models.base import Model, read_config
from minitransformer.models.described import require_described
from minitransformer.models.pooling import PoolingName
from minitransformer.models.weights import own_tensors, require_finite
from minitransformer.pretrained.architecture import HubConfig, TheirTensor
from minitransformer.pretrained.conversion import write_checkpoint
from minitransformer.pretrained.distilbert import DistilBERTHubConfig
from minitransformer.pretrained.folders import checkpoint_folder, read_tensors
from minitransformer.pretrained.sentence_folders import (
    POOLINGS,
    has_sentence_head,
    read_sentence_head,
    write_sentence_head,
)
from minitransformer.text_encoding import text_frame
from minitransformer.untrusted import shown

SUFFIX = "ForSequenceClassification"
_DENSE = "classifier.dense"
"""RoBERTa's name of the layer before the head, tanh(W h + b), which is the pooler of a BERT."""


class Head(NamedTuple):
    """A classification head: the names of its labels, the dropout before it if the settings give one, and its tensors:
    "output.weight", "output.bias" where it has one, and "encoder.pooler.weight" and "...bias" where they lie in it."""

    labels: tuple[str, ...]
    pooling: PoolingName
    dropout: float | None
    tensors: dict[str, Tensor]


def is_classifier(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a folder with the `settings` of its `config.json` is of a classifier."""
    return _has_class(settings) or has_sentence_head(folder, settings)


def _has_class(settings: Mapping[str, Any]) -> bool:
    classes = settings.get("architectures")
    return isinstance(classes, list) and str(classes[:1]).endswith(f"{SUFFIX}']")


def read_head(folder_or_hub_id: str | Path, hub_class: type[HubConfig]) -> Head:
    """The head of a checkpoint of `hub_class`. `InputError` for one without a head, or with one that does something
    else than to choose one of several labels."""
    folder = checkpoint_folder(folder_or_hub_id)
    if hub_class is DistilBERTHubConfig:
        head = "has a ReLU where a BERT's has tanh, and is not computed here: BERT.from_pretrained reads the encoder"
        raise InputError(f"{folder} is a checkpoint of 'distilbert', whose classification head {head}")
    settings = read_config(folder)
    if (problem := settings.get("problem_type")) not in (None, "single_label_classification"):
        raise InputError(f"{folder / 'config.json'}: problem_type={shown(problem)}: only one label a text is supported")
    if _has_class(settings) or not has_sentence_head(folder, settings):
        pooling: PoolingName = "last" if hub_class.generates else "first"
        tensors = _read_class_head(folder, hub_class)
    else:
        pooling, tensors = read_sentence_head(folder)
    require_finite(tensors, str(folder))
    num_labels = tensors["output.weight"].shape[0] if tensors["output.weight"].dim() else 0
    given = settings.get("id2label") or {str(i): f"LABEL_{i}" for i in range(num_labels)}
    labels = [given.get(str(i)) for i in range(num_labels)] if isinstance(given, dict) else []
    if len(given) != num_labels or not all(isinstance(label, str) for label in labels):
        raise InputError(f"{folder / 'config.json'}: id2label={shown(given)} does not name {num_labels} labels")
    if num_labels == 1:
        raise InputError(f"{folder} has a head of one number, a regression: only labels are supported")
    return Head(tuple(map(str, labels)), pooling, settings.get(_dropout_name(hub_class)), tensors)


def _read_class_head(folder: Path, hub_class: type[HubConfig]) -> dict[str, Tensor]:
    names, stored = _head_names(hub_class), read_tensors(folder)
    if (name := names["output.weight"]) not in stored:
        raise InputError(f"{folder} has no classification head, {name}: python -m train.finetune --init makes one")
    return {mine: stored[theirs].read() for mine, theirs in names.items() if theirs in stored}


def export_classifier(
    model: Any, hub_class: type[HubConfig], folder: str | Path, tokenizer: Tokenizer | None = None
) -> Path:
    """Write a `...ForSequenceClassification` of the encoder's architecture, or a folder of sentence-transformers for a
    BERT that pools otherwise. `InputError` as `export_pretrained`, and for a pooling that neither has."""
    require_described(model, model.described())
    c, encoder = model.config, model.encoder
    _require_pooling(model, hub_class)
    has_class = hub_class.generates or model.uses_pooler
    ours = encoder.config.to_dict() | ({"tie_output": True} if hub_class.generates else {})
    theirs = hub_class.from_ours(ours)
    own = {name: tensor.detach() for name, tensor in own_tensors(model).items()}
    names = _head_names(hub_class) if has_class else {}
    if hub_class.generates:
        _fold_bias(own, hub_class.title)
    places = {f"encoder.{name}": place for name, place in theirs.tensors(ours, theirs.prefix).items()}
    places |= {mine: TheirTensor((name,)) for mine, name in names.items()}
    tensors: dict[str, Tensor] = {}
    for name, place in places.items():
        tensors |= place.written(own[name])
    labels = c.labels or tuple(map(str, range(c.num_labels)))
    settings: dict[str, Any] = {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": "single_label_classification",
        _dropout_name(hub_class): c.dropout,
    }
    kind = theirs.architecture(ours)
    kind = re.sub(r"(For|LMHead|Model)\w*$", "", kind) + SUFFIX if has_class else kind
    frame = None if tokenizer is None else text_frame(tokenizer)
    folder = write_checkpoint(folder, theirs, kind, tensors, tokenizer, frame=frame, settings=settings)
    if not has_class:
        head = {name: own[f"output.{name}"] for name in ("weight", "bias")}
        write_sentence_head(folder, c.pooling, head, theirs.max_length())
    return folder


def _require_pooling(model: Model, hub_class: type[HubConfig]) -> None:
    pooling = model.config.pooling
    if hub_class.generates and pooling != "last":
        way_out = "python -m train.finetune --pooling last makes one that can"
        raise InputError(
            f"pooling={pooling!r} cannot be exported, since {hub_class.title}{SUFFIX} reads the last token: {way_out}"
        )
    if not hub_class.generates and pooling not in POOLINGS:
        neither = f"neither {hub_class.title}{SUFFIX} nor sentence-transformers has it, but {', '.join(POOLINGS)}"
        way_out = "python -m train.finetune --pooling mean makes one that can"
        raise InputError(f"pooling={pooling!r} cannot be exported, since {neither}: {way_out}")


def _head_names(hub_class: type[HubConfig]) -> dict[str, str]:
    """The names of our classifier's tensors in a checkpoint, where they differ from the encoder's."""
    if hub_class.generates:
        return {"output.weight": "score.weight"}
    if hub_class.model_type != "roberta":
        return {f"output.{kind}": f"classifier.{kind}" for kind in ("weight", "bias")}
    output = {f"output.{kind}": f"classifier.out_proj.{kind}" for kind in ("weight", "bias")}
    return output | {f"encoder.pooler.{kind}": f"{_DENSE}.{kind}" for kind in ("weight", "bias")}


def _dropout_name(hub_class: type[HubConfig]) -> str:
    return "classifier_dropout_prob" if hub_class.model_type == "albert" else "classifier_dropout"


def _fold_bias(own: dict[str, Tensor], title: str) -> None:
    """A causal model's head W has no bias b. The final norm's bias then takes a d with W d = b instead: only the head
    reads it. `InputError` if there is none."""
    bias, weight = own["output.bias"].double(), own["output.weight"].double()
    if not bias.any():
        return
    name = "encoder.decoder.final_norm.bias"
    shift = torch.linalg.lstsq(weight, bias[:, None], driver="gelsd").solution[:, 0]
    if name not in own or not torch.allclose(weight @ shift, bias, rtol=0, atol=1e-6):
        raise InputError(f"{title}{SUFFIX} has no bias in its head: set that of the classifier's output to 0 first")
    own[name] = own[name] + shift.to(own[name].dtype)
