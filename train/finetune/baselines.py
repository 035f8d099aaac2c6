"""What a user would do without this library: two linear classifiers on word counts, by scikit-learn.

Each has one setting, chosen by accuracy on the validation split; the test split is scored once.
"""

import importlib.util
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets

from minitransformer.data.columns import text_batches, texts
from train.finetune.metrics import scores
from train.translate.texts import UNSPACED

LEARNED_BYTES = 10_000_000
"""The most training text: counts of words and pairs of words take about sixty times its memory."""
MOST_LABELS = 1000
"""Of more labels there are no baselines. Both keep a number for each label and each word or pair of words."""
MOST_NUMBERS = 250_000_000
"""The most of those numbers, 2 GB; there is a word or pair of words for every ten bytes of text, about."""
_PUNCTUATION = (
    r"!-/:-@\[-`{-~\u00a1-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u2000-\u206f\u3000-\u303f\uff00-\uff0f"
)
_COUNTED: dict[str, Any] = {"ngram_range": (1, 2), "token_pattern": rf"[{UNSPACED}]|[^\s{UNSPACED}{_PUNCTUATION}]+"}
"""Words and pairs of words; a letter is a word where there are no spaces. scikit-learn's own pattern ignores
words of one letter, and the vowel signs of Hindi."""


def naive_bayes(alpha: float) -> Any:
    """Multinomial naive Bayes on counts of words and pairs of neighbouring words; `alpha` is added to each count."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    return make_pipeline(CountVectorizer(**_COUNTED), MultinomialNB(alpha=alpha))


def logistic_regression(strength: float) -> Any:
    """Logistic regression on TF-IDF of the same; `strength` is the inverse of the penalty's weight."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    vectorizer = TfidfVectorizer(**_COUNTED, sublinear_tf=True)
    return make_pipeline(vectorizer, LogisticRegression(C=strength, max_iter=1000))


BASELINES: dict[str, tuple[Callable[[float], Any], tuple[float, ...]]] = {
    "naive Bayes": (naive_bayes, (0.1, 0.3, 1.0, 2.0)),
    "TF-IDF + logistic regression": (logistic_regression, (0.3, 1.0, 3.0, 10.0, 30.0)),
}


def baselines(
    splits: Mapping[str, datasets.Dataset], test: str, names: Sequence[str], *, learned_bytes: int = LEARNED_BYTES
) -> dict[str, dict[str, Any]]:
    """The `scores` of each on the split called `test`, with its `setting` and the `validation_accuracy` that chose it.

    They learn from at most about `learned_bytes` of training texts, or fewer for many labels; a warning says if that is
    not all. A baseline that finds no word in them is left out. Without scikit-learn and for more than 1,000 labels
    there are none, which a warning says.
    """
    if len(names) > MOST_LABELS:
        warnings.warn(f"no baselines: {len(names):,} labels would take them too much memory", stacklevel=2)
        return {}
    if importlib.util.find_spec("sklearn") is None:
        warnings.warn("no baselines: they need scikit-learn, pip install 'minitransformer[baselines]'", stacklevel=2)
        return {}
    learned, labels = sample_of(splits["train"], min(learned_bytes, 10 * MOST_NUMBERS // len(names)))
    true = {name: splits[name]["label"][:] for name in ("validation", test)}

    def scored(model: Any, split: str) -> dict[str, Any]:
        batches = text_batches(splits[split], "text")
        guesses = [int(label) for rows in batches for label in model.predict(rows["text"])]
        return scores(guesses, true[split], names)

    results = {}
    for name, (build, settings) in BASELINES.items():
        best: tuple[float, float, Any] | None = None
        for setting in settings:
            model = build(setting)
            try:
                model.fit(learned, labels)
            except ValueError as error:
                if "empty vocabulary" not in str(error):
                    raise
                break
            accuracy = scored(model, "validation")["accuracy"]
            # The first of equally good ones. Only the best model is kept: each has its own vocabulary.
            if best is None or accuracy > best[0]:
                best = accuracy, setting, model
        if best is not None:
            accuracy, setting, model = best
            results[name] = {**scored(model, test), "setting": setting, "validation_accuracy": accuracy}
    return results


def sample_of(split: datasets.Dataset, num_bytes: int) -> tuple[list[str], list[int]]:
    """About `num_bytes` of texts with their labels, drawn from all over the split; each label is among them."""
    share = num_bytes / max(1, sum(len(text.encode()) for text in texts(split, "text")))
    chance, seen = random.Random(0), set[int]()
    learned, labels = list[str](), list[int]()
    for rows in text_batches(split, "text", "label"):
        for text, label in zip(rows["text"], rows["label"], strict=True):
            if share >= 1 or label not in seen or chance.random() < share:
                seen.add(label)
                learned.append(text)
                labels.append(label)
    if share < 1:
        warnings.warn(
            f"the baselines learn from {num_bytes / 1e6:,.0f} MB of the texts, {len(learned):,} of {len(split):,}, "
            "drawn at random",
            stacklevel=3,
        )
    return learned, labels
