import pytest

from minitransformer.data import load
from minitransformer.errors import InputError


@pytest.mark.parametrize(
    ("name", "by", "options"), [("dates", "target", {"locales": ["fr"]}), ("recall", "source", {})]
)
def test_what_is_generated_is_split_by_what_must_not_be_known(name, by, options):
    corpus = load(name, count=300, **options)
    train, validation, test = (set(corpus[split][by]) for split in ("train", "validation", "test"))
    assert not (train & test or train & validation or validation & test)
    assert sum(corpus.num_rows.values()) == 300
    assert load(name, count=300, **options)["test"][:] == corpus["test"][:]
    assert all(name.startswith("fr ") for name in corpus["train"].to_dict().get("format", []))


def test_an_unknown_name_is_answered_with_the_names_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"'date'.*dates, recall, shakespeare, reviews, bible, digits and hub:NAME"):
        load("date")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dates", {"source": "a", "target": "b"}, "dates has columns of its own: leave out 'a', 'b'"),
        ("reviews", {"text": "a"}, "reviews has columns of its own"),
        ("recall", {"locales": ["de"]}, "are for dates, not for recall"),
        ("some.csv", {"count": 3}, "count=3 is for what is generated"),
        ("dates", {"count": 0}, "^0 distinct values"),
        ("dates", {"kind": "labelled"}, "dates holds pairs, not labelled"),
        ("shakespeare", {"kind": "pairs"}, "shakespeare holds text, not pairs"),
    ],
)
def test_options_of_another_corpus_are_input_errors(name, options, message):
    with pytest.raises(InputError, match=message):
        load(name, **options)
