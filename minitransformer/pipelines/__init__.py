"""Text in, text out: a model with the tokenizers it was trained with."""

from minitransformer.pipelines.classifier import Classifier, Guess
from minitransformer.pipelines.completer import Completer
from minitransformer.pipelines.mask_filler import Filling, MaskFiller
from minitransformer.pipelines.translator import Translation, Translator

__all__ = ["Classifier", "Completer", "Filling", "Guess", "MaskFiller", "Translation", "Translator"]
