"""What a user would do without this library: two linear classifiers on word counts, by scikit-learn.

Each has one setting, chosen by accuracy on the validation split; the test split is scored once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minitransformer.data.labels import LabelledTexts
from train.label_scores import scores

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


def baselines(splits: Mapping[str, LabelledTexts], test: str, num_labels: int) -> dict[str, dict[str, Any]]:
    """The `scores` of each on the split called `test`, with its `setting` and the `validation_accuracy` that chose it.

    A baseline that finds no word in the training texts is left out.
    """
    results = {}
    for name, (build, settings) in BASELINES.items():
        tried = []
        for setting in settings:
            model = build(setting)
            try:
                model.fit(splits["train"].texts, splits["train"].labels)
            except ValueError as error:
                if "empty vocabulary" not in str(error):
                    raise
                break
            validation = splits["validation"].labels
            tried.append((scores(_predicted(model, splits["validation"]), validation, num_labels), setting, model))
        if tried:
            on_validation, setting, model = max(tried, key=lambda each: each[0]["accuracy"])
            results[name] = {
                **scores(_predicted(model, splits[test]), splits[test].labels, num_labels),
                "setting": setting,
                "validation_accuracy": on_validation["accuracy"],
            }
    return results


def _predicted(model: Any, split: LabelledTexts) -> Sequence[int]:
    return model.predict(split.texts).tolist()
