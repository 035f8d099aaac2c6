import os
import shlex
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import minitransformer
from minitransformer.errors import InputError
from minitransformer.reporting import naming_flags, reported_to_user

FOLDER = Path(minitransformer.__file__).parent
MEMORY = "not enough memory: take a smaller model, batch or text"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("d_model=100 is not divisible by num_heads=3"), "d_model=100 is not divisible by num_heads=3"),
        (InputError("first\n  second\r\nthird "), "first second third"),
        (InputError("it says \x1b[2J\u202e here"), r"it says \x1b[2J\u202e here"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "No such file or directory: a.txt"),
        (PermissionError(13, "Permission denied", "config.json"), "Permission denied: config.json"),
        (IsADirectoryError(21, "Is a directory", ".a.0f.part", None, "a"), "Is a directory: a"),  # of a renaming
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ConnectionError("the server hung up"), "the server hung up"),
        (MemoryError("Unable to allocate 9 TiB"), f"{MEMORY} (Unable to allocate 9 TiB)"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            f"{MEMORY} (DefaultCPUAllocator: can't allocate memory)",
        ),
        (RuntimeError("CUDA out of memory. Tried"), f"{MEMORY} (CUDA out of memory. Tried)"),
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


@pytest.mark.parametrize("kind", [ValueError, KeyError, RuntimeError, AssertionError, SystemExit])
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


NO_SPACE = "error: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    ("action", "streams", "expected"),
    [
        ("print('a')", "", (0, "a\n", "")),
        ("raise KeyboardInterrupt", "", (130, "", "")),
        ("print('a'); raise KeyboardInterrupt", "> /dev/full", (130, "", "")),
        ("print('a')", "> /dev/full", (2, "", NO_SPACE)),
        ("print('a' * 10**6)", "> /dev/full", (2, "", NO_SPACE)),
        ("print('help'); raise SystemExit(0)", "> /dev/full", (2, "", NO_SPACE)),
        ("print('a')", ">&-", (0, "", "")),
        ("print('a')", "1< /dev/null", (2, "", "error: [Errno 9] Bad file descriptor\n")),
        ("warnings.warn('w'); print('a')", "2>&-", (0, "a\n", "")),
        ("warnings.warn('w'); print('a')", "2> /dev/full", (0, "a\n", "")),
        ("raise InputError('no')", "2>&-", (2, "", "")),
        ("raise InputError('no')", "2> /dev/full", (2, "", "")),
        ("raise InputError('no')", ">&- 2>&- <&-", (2, "", "")),
        ("print(repr(sys.stdin.read()))", "<&-", (0, "''\n", "")),
    ],
)
def test_streams_that_are_closed_or_full_end_in_a_line_or_none(action, streams, expected):
    assert run(action, streams) == expected


@pytest.mark.parametrize(
    ("encoding", "shown", "lacking"),
    [
        ("ascii", r"\xe9\u4e0d\u662f\U0001f600", "4 characters"),
        ("latin-1", "\ufffd" + r"\u4e0d\u662f\U0001f600", "3 characters"),  # the first is no UTF-8
        ("ascii:replace", "????", ""),  # as the user wants it
        ("utf-8", "é不是\N{GRINNING FACE}", ""),
    ],
)
def test_characters_that_the_output_cannot_show_are_escaped_and_counted(encoding, shown, lacking):
    code, out, err = run("print('é不是\N{GRINNING FACE}')", "", PYTHONIOENCODING=encoding)
    assert (code, out.strip(), err.count("\n")) == (0, shown, bool(lacking))
    assert not lacking or err.startswith(f"warning: {lacking} are written as escapes, since the encoding of standard")


def run(action, streams, pass_fds=(), **environment):
    """Exit code, output and errors of a program that does this, started by a shell with these redirections."""
    light = "import sys, types, warnings; package = sys.modules['minitransformer'] = types.ModuleType('light')\n"
    light += f"package.__path__ = [{str(FOLDER)!r}]; from minitransformer.reporting import *\n"
    code = f"{light}with reported_to_user(): {action}"
    environment = {**os.environ, "PYTHONUNBUFFERED": "", **environment}
    command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} {streams}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, env=environment, pass_fds=pass_fds)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def test_what_a_library_makes_of_ctrl_c_is_no_error(capsys):
    with pytest.raises(SystemExit) as exit_, reported_to_user():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as interrupt:
            raise InputError("the file is damaged") from interrupt
    assert exit_.value.code == 130
    assert capsys.readouterr() == ("", "")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("module", ["minitransformer", "train.translate"])
def test_ctrl_c_ends_a_command_without_a_traceback_while_it_imports_its_libraries(module):
    options = dict(cwd=FOLDER.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    handled = partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    with subprocess.Popen([sys.executable, "-m", module, "--help"], preexec_fn=handled, **options) as program:
        while b"libtorch" not in Path(f"/proc/{program.pid}/maps").read_bytes():
            time.sleep(0.01)
        program.send_signal(signal.SIGINT)
        assert (*program.communicate(timeout=60), program.returncode) == (b"", b"", 130)


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_goes_away_is_not_reported(lines):
    """`... | head`: the pipe breaks while printing, or when the buffer is flushed at the end."""
    reading, writing = os.pipe()
    os.close(reading)
    action = f"import os; os.dup2({writing}, 1); print('x\\n' * {lines})"
    assert run(action, "", pass_fds=[writing]) == (141, "", "")
    os.close(writing)
