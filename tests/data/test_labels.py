import json

import datasets
import huggingface_hub
import pytest

from minitransformer.data.labelled_texts import LabelledTexts
from minitransformer.data.labels import load_labelled
from minitransformer.errors import InputError

ROWS = [(f"text {i}", "good" if i % 3 else "bad") for i in range(30)]


def write(path, rows, header=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    comma = "," if path.suffix == ".csv" else "\t"
    lines = [comma.join(row) for row in ([header] if header else []) + rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def rows_of(corpus):
    return sorted(
        (text, corpus.names[label])
        for split in corpus.splits.values()
        for text, label in zip(split.texts, split.labels, strict=True)
    )


def flipped(rows):
    return [(label, text) for text, label in rows]


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
@pytest.mark.parametrize(
    ("header", "rows"),
    [
        (("text", "label"), ROWS),
        (("sentence", "label"), ROWS),
        (("label", "text"), flipped(ROWS)),
        (("label", "utterance"), flipped(ROWS)),
        (None, ROWS),
        (None, flipped(ROWS)),
    ],
)
def test_a_table_of_two_columns_is_read_with_or_without_a_header_whichever_comes_first(suffix, header, rows, tmp_path):
    corpus = load_labelled(write(tmp_path / f"a{suffix}", rows, header))
    assert rows_of(corpus) == sorted(ROWS)
    assert corpus.names == ("bad", "good")
    assert {name: len(split.texts) for name, split in corpus.splits.items()} == {
        "train": 24,
        "validation": 3,
        "test": 3,
    }


def test_columns_are_named_where_their_names_do_not_tell(tmp_path):
    rows = [(str(i), text, label, "x") for i, (text, label) in enumerate(ROWS)]
    path = write(tmp_path / "a.tsv", rows, ("n", "review", "mood", "source"))
    assert rows_of(load_labelled(path, text="review", label="mood")) == sorted(ROWS)
    with pytest.raises(InputError, match=r"which of \['n', 'review', 'mood', 'source'\] are texts and labels"):
        load_labelled(path)
    with pytest.raises(InputError, match=r"has no column 'tone'; it has"):
        load_labelled(path, text="review", label="tone")


@pytest.mark.parametrize("dev", ["validation", "val", "dev"])
@pytest.mark.parametrize("header", [None, ("label", "text")])
def test_a_folder_is_read_as_its_training_file_says(dev, header, tmp_path):
    for name, rows in (
        ("train", ROWS),
        (dev, [("zero", "bad"), ("three", "bad")]),
        ("test", [("one", "good"), ("two", "bad")]),
    ):
        write(tmp_path / f"{name}.tsv", flipped(rows), header)
    corpus = load_labelled(tmp_path)
    assert corpus.splits["validation"] == LabelledTexts(["zero", "three"], [0, 0])
    assert corpus.splits["test"] == LabelledTexts(["one", "two"], [1, 0])
    assert len(corpus.splits["train"].texts) == 30


def test_numbers_as_labels_are_sorted_by_value(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"text": f"text {i}", "label": (10, 9, -1)[i % 3]} for i in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_labelled(path).names == ("-1", "9", "10")


@pytest.fixture
def hub(monkeypatch):
    """Puts splits in the place of the hub's."""

    def put(**splits):
        features = datasets.Features(
            {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])}
        )
        loaded = datasets.DatasetDict(
            {name: datasets.Dataset.from_dict(columns, features=features) for name, columns in splits.items()}
        )
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: loaded)

    return put


SOME = {"sentence": ["a", "b", "c"], "label": [0, 1, 1]}


def test_declared_names_keep_their_order(hub):
    hub(train=SOME, validation=SOME)
    corpus = load_labelled("hub:some/thing")
    assert corpus.names == ("pos", "neg")
    assert corpus.splits["train"] == LabelledTexts(["a", "b", "c"], [0, 1, 1])


def test_a_test_split_with_hidden_labels_is_left_out(hub):
    hub(train=SOME, validation=SOME, test={"sentence": ["d"], "label": [-1]})
    with pytest.warns(UserWarning, match="hub:some/thing: test has no labels and is left out"):
        assert sorted(load_labelled("hub:some/thing").splits) == ["train", "validation"]


def test_texts_without_a_label_are_dropped_and_counted(hub, tmp_path):
    hub(train=SOME, validation={"sentence": ["d", "e"], "label": [None, 1]})
    with pytest.warns(UserWarning, match="hub:some/thing: dropped 1 texts without a label: 1 in validation"):
        assert load_labelled("hub:some/thing").splits["validation"] == LabelledTexts(["e"], [1])
    hub(train=SOME, validation={"sentence": ["d", "e"], "label": [None, -1]})
    with pytest.raises(InputError, match="none of the 2 validation texts has a label"):
        load_labelled("hub:some/thing")
    for name, rows in (("train", ROWS), ("dev", [("x", ""), ("y", "good")]), ("test", [("x", ""), ("y", "bad")])):
        write(tmp_path / f"{name}.tsv", rows, ("text", "label"))
    with pytest.warns(UserWarning) as warned:
        corpus = load_labelled(tmp_path)
    assert [str(warning.message).split(":")[1] for warning in warned] == [
        " dropped 1 of 2 rows, where text or label is empty"
    ] * 2
    assert corpus.splits["validation"] == LabelledTexts(["y"], [1])
    assert corpus.splits["test"] == LabelledTexts(["y"], [0])


@pytest.mark.parametrize(
    ("header", "test_header", "rows"),
    [
        (("label", "sentence"), ("label", "sentence"), [("", "x"), (" ", "y")]),
        (("label", "sentence"), ("index", "sentence"), [("0", "x"), ("1", "y")]),
        (("label", "sentence"), ("sentence",), [("x",), ("y",)]),
        (None, None, [("", "x"), ("", "y")]),
        (None, None, [("x",), ("y",)]),
    ],
)
def test_a_test_file_without_labels_is_left_out(header, test_header, rows, tmp_path):
    for name in ("train", "dev"):
        write(tmp_path / f"{name}.tsv", flipped(ROWS), header)
    write(tmp_path / "test.tsv", rows, test_header)
    with pytest.warns(UserWarning, match=r"test\.tsv: test has no labels and is left out"):
        assert sorted(load_labelled(tmp_path).splits) == ["train", "validation"]


def test_only_of_the_test_split_may_labels_be_missing(tmp_path):
    write(tmp_path / "train.tsv", ROWS, ("text", "label"))
    write(tmp_path / "dev.tsv", [("0", "x")], ("index", "text"))
    with pytest.raises(InputError, match=r"dev\.tsv has no column 'label'"):
        load_labelled(tmp_path)
    write(tmp_path / "dev.tsv", [("x", "")], ("text", "label"))
    with pytest.raises(InputError, match="in each of the 1 rows, text or label is empty"):
        load_labelled(tmp_path)
    write(tmp_path / "dev.tsv", ROWS, ("text", "label"))
    write(tmp_path / "test.tsv", [("x", "good")], ("review", "label"))
    with pytest.raises(InputError, match=r"test\.tsv has no column 'text'"):
        load_labelled(tmp_path)


def test_empty_texts_are_dropped_and_counted(hub):
    hub(train={"sentence": ["a", " ", "c", None], "label": [0, 1, 1, 0]}, validation=SOME)
    with pytest.warns(UserWarning, match="dropped 2 texts without a character: 2 in train"):
        assert load_labelled("hub:some/thing").splits["train"] == LabelledTexts(["a", "c"], [0, 1])
    hub(train=SOME, validation={"sentence": [""], "label": [0]})
    with pytest.raises(InputError, match="validation has no text in any of its 1 rows"):
        load_labelled("hub:some/thing")


def test_labels_unknown_to_training_are_named_and_counted(tmp_path):
    for name, rows in (("train", ROWS), ("dev", ROWS), ("test", [("x", "odd"), ("y", "good"), ("z", "odd")])):
        write(tmp_path / f"{name}.tsv", rows)
    with pytest.raises(InputError, match=r"2 of 3 test texts have a label .*: 'odd' \(2\); the labels are bad, good"):
        load_labelled(tmp_path)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([(text, "same") for text, _ in ROWS], ("text", "label"), "all of the 24 training texts have the label 'same'"),
        ([(text, "") for text, _ in ROWS], ("text", "label"), "in each of the 30 rows, text or label is empty"),
        ([(text,) for text, _ in ROWS], ("text",), "which of ['text'] are texts and labels"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_refused(rows, header, message, tmp_path):
    with pytest.raises(InputError) as raised:
        load_labelled(write(tmp_path / "a.tsv", rows, header))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [("dates", "dates has no labels"), ("nowhere.tsv", "no labelled texts in 'nowhere.tsv'")],
)
def test_data_without_labels_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        load_labelled(name)


def test_running_text_and_folders_without_validation_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(InputError, match="is no table of texts and labels"):
        load_labelled(tmp_path / "a.txt")
    write(tmp_path / "b" / "train.tsv", ROWS)
    with pytest.raises(InputError, match=r"has no table called validation or val or dev; it has train\.tsv"):
        load_labelled(tmp_path / "b")
