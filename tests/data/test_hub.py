"""Data sets of the hub, in whose place a test puts its own."""

import datasets
import huggingface_hub
import pytest
from helpers_tables import refused, split_rows

from minitransformer.data import load
from minitransformer.errors import InputError

Split = datasets.Dataset.from_dict


@pytest.fixture
def hub(monkeypatch):
    """Puts an exception or splits in the place of the hub."""

    def put(error=None, **splits):
        def load_dataset(*_):
            if error is not None:
                raise error
            return datasets.DatasetDict(splits)

        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
        monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    return put


@pytest.mark.parametrize(
    "error", [ConnectionError, OSError, ValueError, datasets.exceptions.DatasetNotFoundError], ids=lambda e: e.__name__
)
def test_a_hub_that_fails_is_one_line_with_a_way_out(hub, error):
    hub(error("no\nroute"))
    refused("hub:some/thing", "cannot load some/thing", "(no route)", "path of a folder")


def test_an_unreachable_hub_is_asked_only_once(monkeypatch):
    asked = []

    def dataset_info(self, name, timeout):
        asked.append(name)
        raise RuntimeError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: pytest.fail("asked again"))
    with pytest.raises(InputError, match="Name or service not known"):
        load("hub:some/thing:with-configuration")
    assert asked == ["some/thing"]


def test_offline_mode_leaves_the_hub_alone_and_reads_the_cache(hub, monkeypatch):
    table = Split({"text": ["a"] * 20})
    hub(train=table, validation=table)

    def dataset_info(*_, **__):
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    assert load("hub:some/thing").num_rows == {"train": 20, "validation": 20}


def test_columns_get_our_names_and_a_tenth_of_train_becomes_validation(hub):
    table = Split({"id": list(range(20)), "text": list("abcdefghij" * 2), "label": [0, 1] * 10})
    hub(train=table, test=table, unsupervised=table)
    with pytest.warns(UserWarning) as said:
        corpus = load("hub:some/reviews")
    assert str(said[0].message) == "hub:some/reviews: not read: unsupervised"
    assert "20 of 20 test rows also stand in train" in str(said[1].message)
    assert corpus.num_rows == {"train": 18, "validation": 2, "test": 20}
    assert set(corpus["train"].column_names) == {"text", "label"}
    assert corpus["test"].features["label"].names == ["0", "1"]
    assert corpus["test"]["label"][:] == [0, 1] * 10
    hub(validation=table)
    refused("hub:some/reviews", "has no split called train; it has ['validation']")


def test_translations_are_chosen_by_language(hub):
    table = datasets.Dataset.from_list([{"translation": {"de": "ja", "en": "yes", "fr": "oui"}}])
    hub(train=table, validation=table)
    assert load("hub:some/languages", source="en", target="de")["train"][0] == {"source": "yes", "target": "ja"}


def test_pairs_with_an_empty_side_are_dropped_counted_and_the_others_keep_their_order(hub):
    pairs = Split({"de": [f"{n}" if n % 3 else [" ", "", None][n % 9 // 3] for n in range(2500)], "en": ["x"] * 2500})
    empty, whole = Split({"de": ["ja"] * 3, "en": [""] * 3}), Split({"de": ["ja"], "en": ["yes"]})
    hub(train=pairs, validation=whole, test=empty)
    with pytest.warns(UserWarning) as said:
        corpus = load("hub:a/b", source="de", target="en")
    assert [str(warning.message) for warning in said] == [
        "hub:a/b, train: dropped 834 of 2500 rows, where de or en is empty: row 1, 4, 7, 10, 13, ...",
        "hub:a/b, test: in each of the 3 rows, de or en is empty: test is left out",
    ]
    assert corpus.num_rows == {"train": 1666, "validation": 1}
    assert corpus["train"]["source"][:] == [f"{n}" for n in range(2500) if n % 3]
    hub(train=empty, validation=whole)
    refused("hub:a/b", "hub:a/b, train: in each of the 3 rows, de or en is empty", source="de", target="en")
    hub(train=whole.add_column("n", [7]), validation=whole)
    refused("hub:a/b", "train, row 1: 'n' is 7, which is not text", source="de", target="n")


DECLARED = datasets.Features(
    {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg", "odd"])}
)


def test_declared_labels_keep_their_order_and_hidden_ones_are_none(hub):
    some = Split({"sentence": ["a", "b", "c"], "label": [0, 1, 1]}, features=DECLARED)
    held_out = Split({"sentence": ["d", "e", " ", "f"], "label": [None, 1, 0, 2]}, features=DECLARED)
    hidden = Split({"sentence": ["d"], "label": [-1]}, features=DECLARED)
    hub(train=some, validation=held_out, test=hidden)
    with pytest.warns(UserWarning) as said:
        corpus = load("hub:some/thing", kind="labelled")
    assert [str(warning.message).partition(": ")[2] for warning in said] == [
        "dropped 2 of 4 rows, where sentence or label is empty: row 1, 3",
        "in each of the 1 rows, sentence or label is empty: test is left out",
        "1 of 2 validation texts have a label that no training text has: 'odd' (1): a classifier cannot learn it",
    ]
    assert corpus["train"].features["label"].names == ["pos", "neg", "odd"]
    assert split_rows(corpus["validation"]) == [("e", "neg"), ("f", "odd")]
    hub(train=some, validation=hidden)
    refused("hub:some/thing", "in each of the 1 rows, sentence or label is empty", kind="labelled")


def test_a_tenth_set_apart_leaves_train_every_label(hub):
    labels = [f"{n}" if n < 10 else "many" for n in range(60)]
    hub(train=Split({"text": [f"text {n}" for n in range(60)], "label": labels}))
    corpus = load("hub:some/thing")
    assert sum(corpus.num_rows.values()) == 60
    assert {label for _, label in split_rows(corpus["train"])} == {*labels}
    assert {label for _, label in split_rows(corpus["validation"])} == {"many"}
