import subprocess
import sys

import pytest

from minitransformer.data import load
from minitransformer.errors import InputError


def test_importing_the_package_loads_no_heavy_library():
    code = "import sys, minitransformer.data; print(*{'datasets', 'babel', 'pyarrow', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_dates_are_split_by_iso_date():
    corpus = load("dates", count=300)
    assert corpus["train"].column_names == ["source", "target", "format"]
    train, validation, test = (set(corpus[split]["target"]) for split in ("train", "validation", "test"))
    assert not (train & test or train & validation or validation & test)
    assert sum(corpus.num_rows.values()) == 300
    assert load("dates", count=300)["test"][:] == corpus["test"][:]


def test_dates_come_in_other_locales():
    corpus = load("dates", count=50, locales=["fr"])
    assert all(name.startswith("fr ") for name in corpus["train"]["format"])


def test_recall_is_split_by_source():
    corpus = load("recall", count=200)
    assert corpus.num_rows == {"train": 160, "validation": 20, "test": 20}
    assert len({source for split in corpus.values() for source in split["source"]}) == 200


def test_an_unknown_name_is_answered_with_the_names_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"'date'.*dates, recall, shakespeare, reviews, bible and hub:NAME"):
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
