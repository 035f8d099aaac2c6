"""A line is what `wc -l` counts, in every encoding and however the file is cut into blocks."""

import re
import tempfile
import warnings
from pathlib import Path

import pytest
from helpers_tables import write
from hypothesis import example, given
from hypothesis import strategies as st

from minitransformer.data.text_file import read_blocks, read_lines, require_text
from minitransformer.errors import InputError

texts = st.text("ab é猫\n\r\v\x0c\x1c\x85\u2028\t", max_size=60)
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"])


def expected(text):
    if "\n" not in text:
        return text.replace("\r", "\n")
    return re.sub(r"\r+(?=\n|\Z)", "", text)


@given(texts, encodings, st.integers(1, 8))
@example("a\r\nb\rc\r\r\nd\r", "utf-8", 2)
@example("old\rMac\r", "utf-16", 3)
@example("a\0b\n", "utf-8", 3)
def test_blocks_and_lines_make_up_the_text_that_the_file_holds(text, encoding, block):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt"
        path.write_bytes("text of a file: ".encode(encoding) + text.encode(encoding)[len("".encode(encoding)) :])
        whole = expected(f"text of a file: {text}")
        assert "".join(read_blocks(path, block)) == whole
        assert list(read_lines(path, block)) == whole.removesuffix("\n").split("\n")


@given(st.binary(max_size=30), st.integers(1, 8))
def test_bytes_of_no_encoding_are_refused_with_their_line(content, block):
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.txt", b"first line\nsecond line\n" + content)
        try:
            content.decode()
        except UnicodeDecodeError as error:
            line = 3 + content.count(b"\n", 0, error.start)
            for read in (read_blocks, read_lines):
                with pytest.raises(InputError, match=rf"line {line}: byte 0x.. is not UTF-8"):
                    list(read(path, block))


def test_utf_16_without_its_mark_is_refused(tmp_path):
    for encoding in ("utf-16-le", "utf-16-be"):
        with pytest.raises(InputError, match="too many of its bytes are 0 for text in UTF-8"):
            list(read_lines(write(tmp_path / "a.txt", "A line of text\n".encode(encoding))))


def test_line_ends_of_old_macs_are_said(tmp_path):
    with pytest.warns(UserWarning, match="no line feed: each carriage return is read as the end of a line"):
        require_text(write(tmp_path / "a.txt", "one\rtwo\r"))
    with warnings.catch_warnings(action="error"):
        require_text(write(tmp_path / "b.txt", "one\rtwo\r\n"))
