"""What a user would do without this library: two linear classifiers on word counts, by scikit-learn.

Each has one setting, chosen by accuracy on the validation split; the test split is scored once.
"""

import random
import warnings
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets

from minitransformer.data.columns import text_batches, texts
from train.finetune.metrics import scores

LEARNED_BYTES = 10_000_000
"""Of training texts: words and pairs of words take some sixty times as much memory, and more where labels are many."""
INSTALL = "no baselines: they need scikit-learn, pip install 'minitransformer[baselines]'"
# Single letters are words too: scikit-learn leaves out "I" and "a" unless told.
_WORDS = r"(?u)\b\w+\b"


def naive_bayes(alpha: float) -> Any:
    """Multinomial naive Bayes on counts of words and pairs of neighbouring words; `alpha` is added to each."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    return make_pipeline(CountVectorizer(ngram_range=(1, 2), token_pattern=_WORDS), MultinomialNB(alpha=alpha))


def logistic_regression(strength: float) -> Any:
    """Logistic regression on TF-IDF of the same; `strength` is 1 over the weight of its penalty."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=_WORDS, sublinear_tf=True)
    return make_pipeline(vectorizer, LogisticRegression(C=strength, max_iter=1000))


BASELINES: dict[str, tuple[Callable[[float], Any], tuple[float, ...]]] = {
    "naive Bayes": (naive_bayes, (0.1, 0.3, 1.0, 2.0)),
    "TF-IDF + logistic regression": (logistic_regression, (0.3, 1.0, 3.0, 10.0, 30.0)),
}


def available() -> bool:
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return False
    return True


def baselines(splits: Mapping[str, datasets.Dataset], test: str, num_labels: int) -> dict[str, dict[str, Any]]:
    """The `scores` of each on the split called `test`, with its `setting` and the `validation_accuracy` that chose it.

    Of more than `LEARNED_BYTES` of training texts they learn from so much, which a warning says. A baseline that finds
    no word in them is left out.
    """
    learned, labels = _learned_from(splits["train"])
    labels_of = {name: splits[name]["label"][:] for name in ("validation", test)}
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
            guesses = _predicted(model, splits["validation"])
            accuracy = scores(guesses, labels_of["validation"], num_labels)["accuracy"]
            # Of equally good ones the first. Only the best is kept: each has its own count of all words.
            if best is None or accuracy > best[0]:
                best = accuracy, setting, model
        if best is not None:
            accuracy, setting, model = best
            results[name] = {
                **scores(_predicted(model, splits[test]), labels_of[test], num_labels),
                "setting": setting,
                "validation_accuracy": accuracy,
            }
    return results


def _learned_from(split: datasets.Dataset) -> tuple[list[str], list[int]]:
    """About `LEARNED_BYTES` of texts with their labels, drawn from all over the split; each label is among them."""
    num_bytes = sum(len(text.encode()) for text in texts(split, "text"))
    share, chance, seen = LEARNED_BYTES / max(1, num_bytes), random.Random(0), set[int]()
    learned, labels = list[str](), list[int]()
    for rows in text_batches(split, "text", "label"):
        for text, label in zip(rows["text"], rows["label"], strict=True):
            if share >= 1 or label not in seen or chance.random() < share:
                seen.add(label)
                learned.append(text)
                labels.append(label)
    if share < 1:
        warnings.warn(
            f"the baselines learn from {LEARNED_BYTES / 1e6:,.0f} MB of the texts, {len(learned):,} of "
            f"{len(split):,}, drawn at random",
            stacklevel=3,
        )
    return learned, labels


def _predicted(model: Any, split: datasets.Dataset) -> Sequence[int]:
    guesses = array("i")
    for rows in text_batches(split, "text"):
        guesses.extend(model.predict(rows["text"]).tolist())
    return guesses
