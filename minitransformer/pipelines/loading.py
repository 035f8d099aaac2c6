"""Any saved model as the pipeline that it is for."""

from collections.abc import Sequence
from pathlib import Path

from minitransformer.models import BERT, GPT, SequenceClassifier
from minitransformer.models import kind_of as kind_of_model
from minitransformer.pipelines.base import load_with_tokenizer
from minitransformer.pipelines.classifier import Classifier
from minitransformer.pipelines.completer import Completer
from minitransformer.pipelines.mask_filler import MaskFiller
from minitransformer.pipelines.translator import Translator

Pipeline = Translator | Completer | MaskFiller | Classifier


def load_pipeline(folder: str | Path) -> Pipeline:
    """The model in `folder` with its tokenizers; a BERT without a masked-token head, too. Raises `InputError` as
    `minitransformer.load` does."""
    kind = kind_of_model(folder)
    if issubclass(kind, BERT):
        return MaskFiller(*load_with_tokenizer(folder, BERT, ""))
    if issubclass(kind, GPT):
        return Completer.load(folder)
    return Classifier.load(folder) if issubclass(kind, SequenceClassifier) else Translator.load(folder)


def model_folders(run: Path) -> list[Path]:
    """The folder of a model itself, or those in a run folder of one or several."""
    inside = [] if (run / "model.safetensors").exists() else sorted(run.glob("*/model.safetensors"))
    return [path.parent for path in inside] or [run]


def titles(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many parts as tell them apart."""
    paths = [folder.absolute().parts for folder in folders]
    for count in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-count:]) for parts in paths]
        if len(set(names)) == len(set(paths)):
            break
    return names
