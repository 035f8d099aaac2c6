import os
import subprocess
import sys

import pytest

import minitransformer
from minitransformer.errors import InputError, reported_to_user


def reported(error, capsys):
    """What a program that raises `error` prints and exits with."""
    with pytest.raises(SystemExit) as exit_, reported_to_user():
        raise error
    printed = capsys.readouterr()
    assert printed.out == ""
    return exit_.value.code, printed.err


def test_an_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_an_input_error_becomes_one_line_and_exit_code_2(capsys):
    assert reported(InputError("d_model=100 is not divisible by num_heads=3"), capsys) == (
        2,
        "error: d_model=100 is not divisible by num_heads=3\n",
    )


def test_a_hub_id_where_a_folder_is_wanted_is_told_the_way_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    way_out = "; give a local folder, or read a model from the hub with from_pretrained first"
    with pytest.raises(InputError) as raised:
        minitransformer.load("openai/gpt2")
    assert str(raised.value) == f"openai/gpt2 is not a saved model: it does not exist{way_out}"
    (tmp_path / "runs").mkdir()
    for folder in ("nowhere", "runs/nowhere", "a/b/c", str(tmp_path / "a" / "b")):
        with pytest.raises(InputError) as raised:
            minitransformer.load(folder)
        assert str(raised.value).endswith("it does not exist")


def test_a_message_of_several_lines_becomes_one(capsys):
    assert reported(InputError("first\n  second\r\nthird "), capsys) == (2, "error: first second third\n")


def test_a_missing_file_is_named(tmp_path, capsys):
    missing = tmp_path / "missing.txt"
    with pytest.raises(SystemExit) as exit_, reported_to_user():
        missing.read_text()
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"error: No such file or directory: {missing}\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "config.json"), "error: Permission denied: config.json\n"),
        (OSError(28, "No space left on device"), "error: [Errno 28] No space left on device\n"),
        (ConnectionError("the server hung up"), "error: the server hung up\n"),
    ],
)
def test_an_operating_system_error_becomes_one_line_and_exit_code_2(error, line, capsys):
    assert reported(error, capsys) == (2, line)


@pytest.mark.parametrize("kind", [ValueError, TypeError, KeyError, RuntimeError, AssertionError, KeyboardInterrupt])
def test_any_other_exception_passes_through(kind, capsys):
    error = kind("a bug")
    with pytest.raises(kind) as raised, reported_to_user():
        raise error
    assert raised.value is error
    assert capsys.readouterr().err == ""


def test_an_exit_code_passes_through():
    with pytest.raises(SystemExit) as exit_, reported_to_user():
        sys.exit(7)
    assert exit_.value.code == 7


def test_what_ends_well_says_nothing(capsys):
    with reported_to_user():
        pass
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_goes_away_is_not_reported(lines):
    """`... | head`: the pipe breaks while printing, or when what is left is written at the end."""
    code = f"""
from minitransformer.errors import reported_to_user
input()
with reported_to_user():
    for i in range({lines}):
        print(i)
"""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    with subprocess.Popen([sys.executable, "-c", code], text=True, env=buffered, **pipes) as program:
        program.stdout.close()
        program.stdin.write("go\n")
        program.stdin.close()
        assert program.stderr.read() == ""
        assert program.wait() == 141
