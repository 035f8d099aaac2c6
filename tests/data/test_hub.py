"""Data sets of the hub, in whose place a test puts its own."""

import datasets
import huggingface_hub
import pytest
from helpers_tables import refused, split_rows
from hypothesis import example, given, settings
from hypothesis import strategies as st

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
    corpus = load("hub:some/reviews")
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
        "hub:a/b: dropped 834 of 2500 rows of train, where de or en is empty: row 1, 4, 7, 10, 13, ...",
        "hub:a/b: in each of the 3 rows of test, de or en is empty: test is left out",
    ]
    assert corpus.num_rows == {"train": 1666, "validation": 1}
    assert corpus["train"]["source"][:] == [f"{n}" for n in range(2500) if n % 3]
    hub(train=empty, validation=whole)
    refused("hub:a/b", "in each of the 3 rows of train, de or en is empty", source="de", target="en")
    hub(train=whole.add_column("n", [7]), validation=whole)
    refused("hub:a/b", "row 1 of train: 'n' is 7, which is not text", source="de", target="n")


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
        "dropped 2 of 4 rows of validation, where sentence or label is empty: row 1, 3",
        "in each of the 1 rows of test, sentence or label is empty: test is left out",
    ]
    assert corpus["train"].features["label"].names == ["pos", "neg", "odd"]
    assert split_rows(corpus["validation"]) == [("e", "neg"), ("f", "odd")]
    hub(train=some, validation=hidden)
    refused("hub:some/thing", "in each of the 1 rows of validation, sentence or label is empty", kind="labelled")


rows = st.lists(
    st.tuples(st.sampled_from(["a b", "b", "é", " ", "", None]), st.sampled_from(["x", "y", "10", "9", " ", None])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({"train": rows, "validation": rows}, optional={"test": rows}), st.booleans())
@example({"train": [("a", "x"), ("b", "y")], "validation": [("b", "y")], "test": [("b", None)]}, True)
@example({"train": [("a", "x"), ("b", "y")], "validation": [("b", "x"), ("a", "9"), ("a", "10"), ("b", "9")]}, False)
@pytest.mark.filterwarnings("ignore")
def test_labelled_splits_have_the_whole_rows_or_are_refused(splits, declared):
    """By a rule written out here, for declared labels and for others."""
    names = ["x", "y", "10", "9"] if declared else ["9", "10", "x", "y"]
    kept = {
        split: [row for row in rows if all(cell and cell.strip() for cell in row)] for split, rows in splits.items()
    }
    labels = {split: {label for _, label in rows} for split, rows in kept.items()}
    fine = kept["train"] and kept["validation"] and len(labels["train"]) > 1
    fine = fine and (declared or all(found <= labels["train"] for found in labels.values()))
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.Value("string")})
    if declared:
        features["label"] = datasets.ClassLabel(names=names)
    known = {name: number for number, name in enumerate(names)} | {" ": -1, None: None}
    tables = datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {
                    "text": [text for text, _ in rows],
                    "label": [known[label] if declared else label for _, label in rows],
                },
                features=features,
            )
            for split, rows in splits.items()
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
        patch.setattr(datasets, "load_dataset", lambda *_: tables)
        if not fine:
            with pytest.raises(InputError):
                load("hub:a/b")
            return
        corpus = load("hub:a/b")
    assert {split: split_rows(rows) for split, rows in corpus.items()} == {k: v for k, v in kept.items() if v}
    found = corpus["train"].features["label"].names
    assert found == (names if declared else [name for name in names if name in labels["train"]])
