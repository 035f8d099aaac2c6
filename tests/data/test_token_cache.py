import codecs
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer import InputError
from minitransformer.data import files, running_text, token_cache
from minitransformer.data.files import text_files
from minitransformer.data.running_text import (
    count_characters,
    last_tenth_of_file,
    part_of_file,
    pieces,
    read_blocks,
    texts_of,
)
from minitransformer.data.streams import StreamWindows, token_stream
from minitransformer.data.token_cache import token_file
from minitransformer.tokenization import (
    train_bpe_tokenizer,
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
    train_wordpiece_tokenizer,
)

TEXT = "To be, or not to be:\r\n\r\n  that is the question.\t émigré 猫 \n" * 40
TOKENIZERS = {
    "character": train_character_tokenizer([TEXT.replace("\r", "")]),
    "bpe": train_bpe_tokenizer([TEXT], 80),
    "byte-bpe": train_byte_bpe_tokenizer([TEXT], 300),
}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "text.txt"
    file.write_bytes(codecs.BOM_UTF8 + TEXT.encode())
    return file


def whole(texts):
    return ["".join(text) for text in texts]


@pytest.mark.parametrize("block", [1, 3, 64, 1 << 20])
def test_a_file_in_blocks_is_the_file_as_it_is_read_whole(block, path, monkeypatch):
    monkeypatch.setattr(running_text, "BLOCK_BYTES", block)
    text = path.read_text(encoding="utf-8-sig")
    assert "".join(read_blocks(path)) == text
    assert count_characters(path) == len(text)
    expected = files.read(path)
    parts = last_tenth_of_file(path)
    assert {name: whole(texts) for name, texts in parts.items()} == {name: t["text"] for name, t in expected.items()}
    assert [part.content.num_bytes for part in parts.values()] == [
        len(t["text"][0].encode()) for t in expected.values()
    ]
    assert whole(parts["train"]) == whole(parts["train"])  # as often as needed


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(text=st.text("ab \n\t猫", max_size=200), length=st.integers(1, 20), cuts=st.lists(st.integers(0, 200)))
def test_pieces_do_not_depend_on_the_blocks(text, length, cuts):
    cuts = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    blocks = [text[a:b] for a, b in pairwise(cuts)]
    found = list(pieces(blocks, length))
    assert "".join(found) == text
    assert found == list(pieces([text], length))
    assert all(len(piece) >= length for piece in found[:-1])
    for one, other in pairwise(found):
        assert (other[0].isspace() and not one[-1].isspace()) or len(one) == running_text.LONGEST * length


def test_a_text_without_a_space_is_cut_all_the_same():
    found = list(pieces(["猫" * 1000] * 10, 2))
    assert max(map(len, found)) == 2 * running_text.LONGEST
    assert sum(map(len, found)) == 10_000


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_a_token_file_holds_the_stream_whatever_the_blocks(kind, block, path, tmp_path, monkeypatch):
    monkeypatch.setattr(running_text, "BLOCK_BYTES", block)
    tokenizer = TOKENIZERS[kind]
    for texts in (*last_tenth_of_file(path).values(), texts_of([TEXT, "", "to be ß"])):
        expected = token_stream(whole(texts), tokenizer)
        in_memory, unknown = token_file(texts, tokenizer, tmp_path / "cache")
        assert unknown == (0 if kind == "byte-bpe" else int((expected == 1).sum()))
        assert torch.equal(in_memory.int(), expected)
        assert not (tmp_path / "cache").exists()
        with monkeypatch.context() as large:
            large.setattr(token_cache, "SMALL", 0)
            for _ in range(2):  # written, then found
                mapped, count = token_file(texts, tokenizer, tmp_path / "cache")
                assert count == unknown
                assert torch.equal(mapped, in_memory)
                assert mapped.dtype == in_memory.dtype == torch.int16
        for one, other in zip(batches(mapped), batches(in_memory), strict=True):
            assert torch.equal(one, other)
        for file in (tmp_path / "cache").iterdir():
            file.unlink()
        (tmp_path / "cache").rmdir()


def batches(ids):
    windows = StreamWindows(ids, 5, batch_size=2, seed=1)
    return [windows.batch(rows)["ids"] for rows in windows.epoch(3)]


def test_the_file_is_made_once_and_is_that_of_these_texts_and_this_tokenizer(tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "SMALL", 0)
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path))
    for texts in (["ab", "c"], ["abc"], ["a", "bc"], ["abd"]):
        for tokenizer in TOKENIZERS.values():
            token_file(texts_of(texts), tokenizer)
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "tokens").iterdir()}
    assert len(written) == 12
    monkeypatch.setattr(token_cache, "stream_parts", None)
    assert token_file(texts_of(["ab", "c"]), TOKENIZERS["bpe"]).ids.tolist()
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "tokens").iterdir()} == written


def test_a_torn_file_is_made_again_and_a_failed_one_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "SMALL", 0)
    tokenizer, texts = TOKENIZERS["byte-bpe"], texts_of([TEXT])
    expected = token_file(texts, tokenizer, tmp_path).ids.tolist()
    [file] = tmp_path.iterdir()
    for length in (0, 5, file.stat().st_size - 2):
        file.write_bytes(file.read_bytes()[:length])
        assert token_file(texts, tokenizer, tmp_path).ids.tolist() == expected
    file.unlink()

    def failing(*arguments):
        yield np.zeros(3, dtype=np.int32)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(token_cache, "stream_parts", failing)
    with pytest.raises(OSError, match="No space"):
        token_file(texts, tokenizer, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_changes_while_it_is_prepared_leaves_nothing_under_the_old_name(path, tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "SMALL", 0)
    texts = part_of_file(path, 0, 100)
    assert texts.content.num_bytes  # hashed
    path.write_text(TEXT.upper(), encoding="utf-8")
    with pytest.raises(InputError, match=r"text\.txt changed while it was read: start again"):
        token_file(texts, TOKENIZERS["byte-bpe"], tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    again = part_of_file(path, 0, 100)
    assert token_file(again, TOKENIZERS["byte-bpe"], tmp_path / "cache").ids.tolist()


def test_a_large_vocabulary_has_four_bytes_a_token(tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "SMALL", 0)
    monkeypatch.setattr(token_cache, "vocabulary_size", lambda tokenizer: 1 << 15)
    ids, _ = token_file(texts_of([TEXT]), TOKENIZERS["bpe"], tmp_path)
    assert ids.dtype == torch.int32
    assert torch.equal(ids, token_stream([TEXT], TOKENIZERS["bpe"]))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.text(max_size=30))
def test_characters_are_looked_up_as_the_tokenizer_itself_would(text):
    tokenizer = TOKENIZERS["character"]
    assert token_stream([text], tokenizer).tolist() == [3, *tokenizer.encode(text, add_special_tokens=False).ids]


def test_other_tokenizers_are_asked(monkeypatch):
    from minitransformer.data import streams

    lowercase = train_wordpiece_tokenizer(["a b c"], 40)
    for tokenizer in (TOKENIZERS["bpe"], TOKENIZERS["byte-bpe"], lowercase):
        assert streams._character_table(tokenizer) is None
    assert streams._character_table(TOKENIZERS["character"]) is not None
    changed = train_character_tokenizer(["ab"])
    changed.normalizer = lowercase.normalizer
    assert streams._character_table(changed) is None


def test_the_order_of_windows_takes_four_bytes_each_and_is_that_of_eight():
    order = StreamWindows(torch.arange(1000), 7, batch_size=4, seed=0).epoch(2)
    assert order.order.dtype == torch.int32
    one, other = (
        torch.randperm(1000, generator=torch.Generator().manual_seed(5), dtype=dtype)
        for dtype in (torch.int32, torch.int64)
    )
    assert torch.equal(one, other)
    assert order[1:3] == [order[1], order[2]]
    assert order[-1] == order[len(order) - 1]
    with pytest.raises(IndexError, match=f"batch {len(order)} of {len(order)}"):
        order[len(order)]


def test_what_is_wrong_with_a_file_is_said_as_when_it_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(running_text, "BLOCK_BYTES", 4)
    for content in (b"one\ntwo\nthr\xe9e\nfour\n", b"one\ntwo \xe7\x8c", b"", b" \n\t", b"123"):
        path = tmp_path / "a.txt"
        path.write_bytes(content)
        with pytest.raises(InputError) as expected:
            files.read(path)
        with pytest.raises(InputError) as found:
            last_tenth_of_file(path)
        assert str(found.value) == str(expected.value)


def test_a_folder_of_texts_alone_is_read_in_blocks(tmp_path):
    for name in ("train.txt", "dev.txt"):
        (tmp_path / name).write_text("text")
    assert text_files(tmp_path) == {"train": tmp_path / "train.txt", "validation": tmp_path / "dev.txt"}
    (tmp_path / "test.csv").write_text("text\na\n")
    assert text_files(tmp_path) == {}
    assert text_files(tmp_path / "nowhere") == {}
