import codecs

import pytest

from minitransformer import InputError
from minitransformer.data import files, running_text
from minitransformer.data.files import text_files
from minitransformer.data.running_text import count_characters, last_tenth_of_file, read_blocks

TEXT = "To be, or not to be:\r\n\r\n  that is the question.\t émigré 猫 \n" * 40


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
