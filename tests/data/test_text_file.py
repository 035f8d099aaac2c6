import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer.data.text_file import read_blocks, read_lines
from minitransformer.errors import InputError

contents = st.binary(max_size=30) | st.text("ab é猫\n\r\x0c\u2028\t", max_size=60).map(str.encode)


@settings(max_examples=200, deadline=None)
@given(contents, st.sampled_from([b"", b"\xef\xbb\xbf"]), st.integers(1, 8))
def test_blocks_and_lines_make_up_the_text_that_the_file_holds(content, mark, block):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt"
        path.write_bytes(mark + content)
        try:
            expected = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            for read in (read_blocks, read_lines):
                with pytest.raises(InputError, match=r"line \d: byte 0x.. is not UTF-8"):
                    list(read(path, block))
            return
        assert "".join(read_blocks(path, block)) == expected
        assert list(read_lines(path, block)) == (expected.removesuffix("\n").split("\n") if expected else [])
