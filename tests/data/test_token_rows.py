import shutil
import tempfile
from itertools import product
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from minitransformer.data.labelled_batches import LabelledData
from minitransformer.data.pair_batches import Seq2SeqData
from minitransformer.data.streams import stream_rows
from minitransformer.data.token_rows import padded, token_rows
from minitransformer.tokenization import train_bpe_tokenizer, train_character_tokenizer


def tokenizer_of(size):
    return Tokenizer(models.WordLevel({"a": 0, "b": size - 1}, unk_token="a"))


SMALL, LARGE = tokenizer_of(1 << 15), tokenizer_of((1 << 15) + 1)
ROWS = [([1, 2], 7), ([], 8), ([3] * 20, 9)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path))
    return tmp_path / "tokens"


def rows_of(made=ROWS, tokenizer=SMALL, key="a", columns=("number",)):
    return token_rows(lambda: iter(made), columns=columns, tokenizers=[tokenizer], key=[key])


def content(rows):
    return [(rows[row].tolist(), *(int(numbers[row]) for numbers in rows.columns.values())) for row in range(len(rows))]


ids = st.lists(st.integers(0, (1 << 15) - 1), max_size=6)
numbers = st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-129, 128)


@given(st.integers(0, 2).flatmap(lambda width: st.lists(st.tuples(ids, *[numbers] * width), max_size=8)), st.booleans())
def test_what_comes_back_is_what_went_in_and_is_made_once(made, small):
    columns = ["x", "y"][: len(made[0]) - 1 if made else 0]
    options = {"columns": columns, "tokenizers": [SMALL if small else LARGE], "key": ["a"]}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINITRANSFORMER_CACHE", folder)
        for make in (lambda: iter(made), lambda: pytest.fail("are made again")):
            rows = token_rows(make, **options)
            assert content(rows) == made
            assert rows.ids.dtype == (torch.int16 if small else torch.int32)
            assert rows.starts.element_size() == rows.lengths.element_size() == 4
            for place, column in enumerate(rows.columns.values(), start=1):
                assert column.element_size() == (1 if all(-128 <= row[place] < 128 for row in made) else 4)
        assert len(list(Path(folder, "tokens").glob("[!.]*"))) == 1


def test_rows_are_padded_and_selected():
    rows = rows_of()
    places = torch.tensor([0, 2, 1])
    found, valid = padded(rows.ids, rows.starts[places], rows.lengths[places], pad_id=5)
    assert found.tolist() == [[1, 2] + [5] * 18, [3] * 20, [5] * 20]
    assert valid.sum(dim=1).tolist() == [2, 20, 0]
    for chosen in (torch.tensor([2, 0]), rows.lengths > 0):
        assert sorted(content(rows.select(chosen))) == sorted([ROWS[0], ROWS[2]])
    assert rows.select(rows.lengths > 0).ids is rows.ids


@pytest.mark.parametrize("other", [ROWS[::-1], ROWS[:2], [([1, 2], 7), ([], 8), ([3] * 20, 8)]])
def test_rows_of_another_data_set_in_their_place_are_made_again(other, cache):
    rows_of()
    rows_of(other, key="b")
    ours, others = cache.glob("[!.]*")
    shutil.rmtree(ours)
    others.rename(ours)
    assert content(rows_of()) == ROWS
    assert content(rows_of(other, key="b")) == other


def test_rows_that_fail_to_be_made_leave_no_file(cache):
    def failing():
        yield from ROWS
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        token_rows(failing, columns=["number"], tokenizers=[SMALL], key=["a"])
    assert list(cache.glob("*[!k]")) == []
    assert content(rows_of()) == ROWS


def test_ids_that_do_not_fit_are_refused_rather_than_wrapped(cache):
    with pytest.raises(OverflowError):
        rows_of([([1 << 15], 0)])
    assert list(cache.glob("*[!k]")) == []


@pytest.mark.parametrize(
    "encode",
    [
        lambda split, one, other: Seq2SeqData(split.rename_columns({"a": "source", "b": "target"}), one, other),
        lambda split, one, _: LabelledData(split.rename_columns({"a": "text"}), one, 9),
        lambda split, one, _: stream_rows(split.rename_columns({"a": "text"}), one),
    ],
)
def test_each_kind_of_row_is_encoded_once_for_each_split_and_tokenizer(encode, cache):
    texts = ["ab", "b a", "a"]
    tokenizers = [train_character_tokenizer(texts), train_bpe_tokenizer(texts, 20)]
    splits = [
        Dataset.from_dict({"a": rows, "b": texts, "label": [0, 1, 2]}) for rows in (texts, texts[::-1], ["a b", "", ""])
    ]
    times = []
    for _ in range(2):
        for split, tokenizer in product(splits, tokenizers):
            encode(split, tokenizer, tokenizers[0])
        times.append({file: file.stat().st_mtime_ns for file in cache.glob("[!.]*")})
    assert len(times[0]) == 6
    assert times[0] == times[1]
