import os
import subprocess
import sys
import warnings
from dataclasses import dataclass

import pytest

import minitransformer
from minitransformer.errors import InputError, naming_flags, reported_to_user


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("d_model=100 is not divisible by num_heads=3"), "d_model=100 is not divisible by num_heads=3"),
        (InputError("first\n  second\r\nthird "), "first second third"),
        (InputError("it says \x1b[2J\u202e here"), r"it says \x1b[2J\u202e here"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "No such file or directory: a.txt"),
        (PermissionError(13, "Permission denied", "config.json"), "Permission denied: config.json"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ConnectionError("the server hung up"), "the server hung up"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_of_input_and_operating_system_become_one_line_and_exit_code_2(error, line, capsys):
    with pytest.raises(SystemExit) as exit_, reported_to_user():
        raise error
    assert exit_.value.code == 2
    assert capsys.readouterr() == ("", f"error: {line}\n")


@dataclass
class Flags:
    source: str = ""
    max_length: int = 1


def test_messages_of_a_command_name_its_flags_instead_of_parameters(capsys):
    with pytest.raises(SystemExit), reported_to_user(), naming_flags(Flags):
        warnings.warn("name it (source= and max_length=, or resource= and text=)", stacklevel=1)
        raise InputError("source='de' and target=None: max_length=3; x.source=1 and --source=2 stay, like kind='text'")
    assert capsys.readouterr().err == (
        "warning: name it (--source and --max-length, or resource= and text=)\n"
        "error: --source 'de' and target=None: --max-length 3; x.source=1 and --source=2 stay, like kind='text'\n"
    )


@pytest.mark.parametrize("kind", [ValueError, KeyError, RuntimeError, AssertionError, KeyboardInterrupt, SystemExit])
def test_any_other_exception_passes_through(kind, capsys):
    assert issubclass(InputError, ValueError)
    error = kind("a bug")
    with pytest.raises(kind) as raised, reported_to_user():
        raise error
    assert raised.value is error
    assert capsys.readouterr().err == ""


def test_the_message_for_a_hub_id_instead_of_a_folder_says_how_to_read_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    way_out = "; give a local folder, or read a model from the hub with from_pretrained first"
    (tmp_path / "runs").mkdir()
    for folder, end in {"openai/gpt2": way_out, "nowhere": "", "runs/nowhere": "", "a/b/c": ""}.items():
        with pytest.raises(InputError) as raised:
            minitransformer.load(folder)
        assert str(raised.value) == f"{folder} is not a saved model: it does not exist{end}"


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_goes_away_is_not_reported(lines):
    """`... | head`: the pipe breaks while printing, or when the buffer is flushed at the end."""
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
