import random
import tempfile
import warnings
from pathlib import Path

import datasets
import pytest
from helpers_tables import loaded, write, write_rows
from hypothesis import given
from hypothesis import strategies as st

from minitransformer.data import load
from minitransformer.data.splits import grouped_split, warn_of_repeated
from minitransformer.errors import InputError

few = st.sampled_from(
    ["a", "b", "aé", "猫", "\U0001f600", "\uffee", "a\0b", "z", "Z", "e\u0301", "é", "0", "1", "2", "3"]
)


def expected(rows, seed):
    """The parts as the docstring has them, by the target of each row."""
    rows = list(dict.fromkeys(rows))
    values = sorted({target for _, target in rows})
    tenth = len(values) // 10
    random.Random(seed).shuffle(values)
    test, validation = set(values[:tenth]), set(values[tenth : 2 * tenth])
    return {
        "train": [row for row in rows if row[1] not in test | validation],
        "validation": [row for row in rows if row[1] in validation],
        "test": [row for row in rows if row[1] in test],
    }


@given(st.lists(st.tuples(few, few), min_size=5, max_size=80), st.integers(0, 9))
def test_parts_share_no_value_and_repeat_no_row(rows, seed):
    table = datasets.Dataset.from_dict({"source": [a for a, _ in rows], "target": [b for _, b in rows]})
    if len({target for _, target in rows}) < 10:
        with pytest.raises(InputError, match="distinct values of 'target' are too few to split"):
            grouped_split(table, by="target", seed=seed)
        return
    parts = grouped_split(table, by="target", seed=seed)
    assert {part: list(zip(*split[:].values(), strict=True)) for part, split in parts.items()} == expected(rows, seed)


def test_rows_that_repeat_another_are_counted(tmp_path):
    path = write(tmp_path / "a.tsv", "source\ttarget\n" + "".join(f"a {n % 20}\tb {n % 20}\n" for n in range(47)))
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"a\.tsv: dropped 27 of 47 rows, which repeat an earlier one"):
            assert sum(load(path).num_rows.values()) == 20


@pytest.mark.parametrize(
    ("columns", "shared", "said"),
    [
        (("source", "target", "format"), (("a 1", "b 1", "x"), ("a 2", "b 1", "x")), "1"),
        (("text", "label"), (("a 1", "b 0"), ("a 2", "b 1")), "2"),  # whatever their labels are
        (("text",), (("a 1",), ("a 1",), ("a 2",)), "3"),
    ],
)
def test_rows_in_two_splits_are_counted_in_one_line(columns, shared, said, tmp_path):
    rows = [
        tuple(f"{letter} {n % 20 if letter == 'a' else n % 2}" for letter in "abc"[: len(columns)]) for n in range(30)
    ]
    write_rows(tmp_path / "train.tsv", columns, *rows)
    new = tuple(f"new{cell}"[-3:] if name == "label" else "new" for name, cell in zip(columns, rows[0], strict=True))
    write_rows(tmp_path / "val.tsv", columns, new)
    write_rows(tmp_path / "test.tsv", columns, *shared, new)
    for _ in range(2):
        assert loaded(tmp_path)[1] == (
            f"{tmp_path}: {said} of {len(shared) + 1} test rows also stand in train, "
            f"and 1 of {len(shared) + 1} test rows also stand in validation"
            + (", and 2 of 21 texts have several labels" if "label" in columns else "")
        )


def test_texts_with_several_labels_are_counted(tmp_path):
    rows = [(f"text {n % 15}", "good" if n % 5 else "bad") for n in range(30)]
    rows += [("text 3", "bad"), ("text 3", "fair"), ("text 4", "bad")]
    path = write_rows(tmp_path / "a.tsv", ("text", "label"), *rows)
    for _ in range(2):
        assert "2 of 15 texts have several labels" in loaded(path)[1]


rows_of_a_split = st.lists(st.tuples(few, st.integers(0, 3)), min_size=1, max_size=20)


@given(rows_of_a_split, rows_of_a_split)
def test_texts_in_two_splits_and_with_several_labels_are_those_that_sets_count(train, test):
    splits = {
        split: datasets.Dataset.from_dict({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
        for split, rows in (("train", train), ("test", test))
    }
    texts = [text for text, _ in {*train, *test}]
    counts = {
        f"{len(test):,} test rows also stand in train": sum(text in dict(train) for text, _ in test),
        f"{len({*texts})} texts have several labels": sum(texts.count(text) > 1 for text in {*texts}),
    }
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINITRANSFORMER_CACHE", folder)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warn_of_repeated(splits, Path("data"))
    said = ", and ".join(f"{number} of {what}" for what, number in counts.items() if number)
    assert [str(warning.message) for warning in caught] == ([f"data: {said}"] if said else [])
