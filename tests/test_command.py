"""The flags and streams of every command of `python -m minitransformer`."""

import io
import os
import sys

import pytest
from helpers_pipelines import pipeline
from helpers_scripts import refused

from minitransformer import GPT, Classifier, Completer, MaskFiller, Translator
from minitransformer.__main__ import main as command

PIPELINES = {"translate": Translator, "generate": Completer, "classify": Classifier, "fill-mask": MaskFiller}
COMMANDS = [*PIPELINES, "attend"]


def refused_before_work(capsys, name, *arguments, text="a text"):
    """What is said of a run that does not exist, and is not looked for."""
    line = refused(
        capsys, [name, "nowhere", *(["--prompt", text] if name == "generate" else [text]), *arguments], command
    )
    assert "nowhere" not in line
    return line


@pytest.mark.parametrize("name", COMMANDS)
def test_a_text_that_is_not_utf8_is_refused(name, capsys):
    text = b"ab\xff".decode(errors="surrogateescape")  # as a command line has it
    line = refused_before_work(capsys, name, text=text)
    assert line == r"error: 'ab\udcff' is not UTF-8 after 2 characters; convert it first"


@pytest.mark.parametrize(
    ("name", "flag", "values"),
    [
        ("translate", "--beam", ["0", "-1", "1000000"]),
        ("translate", "--alpha", ["-0.1", "nan", "inf", "1e6"]),
        ("translate", "--n-best", ["0", "6", "9" * 30]),
        ("translate", "--max-new-tokens", ["-1", "9" * 30]),
        ("generate", "--max-new-tokens", ["-1", "9" * 30]),
        ("generate", "--temperature", ["-1", "nan", "inf", "1e300"]),
        ("generate", "--top-k", ["0", "-5"]),
        ("generate", "--top-p", ["0", "1.1", "nan"]),
        ("generate", "--min-p", ["-0.1", "1.1", "nan"]),
        ("generate", "--repetition-penalty", ["0", "-1", "nan", "inf", "1e-40"]),
        ("generate", "--seed", ["-1", "9" * 20]),
        ("fill-mask", "--top-k", ["0", "-5"]),
    ],
)
def test_numbers_out_of_range_are_refused(name, flag, values, capsys):
    for value in values:
        assert refused_before_work(capsys, name, flag, value).startswith(f"error: {flag} ")


def test_a_picture_that_cannot_be_written_is_refused(capsys, tmp_path):
    assert "ends in .png" in refused_before_work(capsys, "attend", "--out", "map.gif")
    assert "there is no folder" in refused_before_work(capsys, "attend", "--out", "no/where/map.png")
    (tmp_path / "a.png").mkdir()
    os.mkfifo(tmp_path / "b.png")
    for name, kind in (("a.png", "a folder"), ("b.png", "a pipe")):
        assert f"is {kind}" in refused_before_work(capsys, "attend", "--out", str(tmp_path / name))


@pytest.mark.parametrize("name", ["translate", "classify"])
def test_an_input_that_never_ends_is_refused(name, capsys):
    line = refused(capsys, [name, "nowhere", "--input", "/dev/zero"], command)
    assert line == "error: --input /dev/zero is a device, which may never end: give a file"


def test_a_closed_output_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert refused_before_work(capsys, "generate") == "error: standard output is closed, and the results would go there"


def test_ctrl_c_stops_a_text_that_streams(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(GPT, "step", interrupted)
    with pytest.raises(SystemExit) as exit_:
        command(["generate", str(pipeline(Completer).save(tmp_path)), "--prompt", "the"])
    assert exit_.value.code == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["translate", "classify"])
def test_texts_are_answered_in_order_from_arguments_a_file_or_standard_input(name, tmp_path, capsys, monkeypatch):
    run, texts = pipeline(PIPELINES[name]).save(tmp_path / "run"), ["the lazy dog", "", "dog"]
    data = b"\xef\xbb\xbf" + "\r\r\n".join([*texts, ""]).encode()  # with a byte order mark
    (tmp_path / "texts.txt").write_bytes(data)
    (tmp_path / "wide.txt").write_bytes(data.decode("utf-8-sig").encode("utf-16"))
    outputs = []
    files = (["--input", str(tmp_path / name)] for name in ("texts.txt", "wide.txt"))
    for arguments in (texts, *files, []):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        command([name, str(run), *arguments])
        outputs.append(capsys.readouterr())
    assert all(output == outputs[0] for output in outputs)
    lines = outputs[0].out.splitlines()
    assert (len(lines), lines[1]) == (3, "")
    assert "warning: 1 of 3 lines are empty and stay empty\n" in outputs[0].err


@pytest.mark.parametrize("name", ["translate", "classify"])
def test_texts_that_cannot_be_read_are_refused(name, tmp_path, capsys, monkeypatch):
    missing, latin = str(tmp_path / "missing.txt"), tmp_path / "latin.txt"
    latin.write_bytes(b"fine\ncaf\xe9\n")
    run = pipeline(PIPELINES[name]).save(tmp_path / "run")
    assert "one or the other" in refused(capsys, [name, str(run), "x", "--input", missing], command)
    assert "No such file" in refused(capsys, [name, str(run), "--input", missing], command)
    assert "line 2: byte 0xe9 is not UTF-8" in refused(capsys, [name, str(run), "--input", str(latin)], command)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(latin.open("rb")))
    assert "standard input, line 2: byte 0xe9 is not UTF-8" in refused(capsys, [name, str(run)], command)
