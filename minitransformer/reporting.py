"""What a command does with errors, warnings, standard streams and Ctrl-C."""

import codecs
import dataclasses
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from minitransformer.errors import InputError

_OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory")
"""In the message of torch's `RuntimeError`."""


@contextmanager
def reported_to_user() -> Iterator[None]:
    """Turn an `InputError` or an operating-system error into one line on stderr and exit code 2, a warning into a line.

    Ctrl-C gives exit code 130, and a reader that has gone away (`... | head`) 141, both without a line. Any other
    exception is a bug and keeps its traceback. Characters that the encoding of standard output lacks are written as
    escapes, and counted in a warning.
    """
    _open_missing_streams()
    showwarning = warnings.showwarning
    # One line as well, without the place in our source.
    warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
    try:
        with _escapes(), _ctrl_c():
            try:
                yield
            except SystemExit:  # of --help, say
                sys.stdout.flush()
                raise
            sys.stdout.flush()
        return
    except InputError as error:
        message, code = str(error), 2
    except KeyboardInterrupt:
        message, code = "", 130
    except BrokenPipeError:
        message, code = "", 141
    except OSError as error:
        name = error.filename2 or error.filename  # the second is what a temporary file was to be renamed to
        message, code = f"{error.strerror or error}: {name}" if name else str(error), 2
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # how the tokenizers library fails over a tokenizer.json
            message, code = f"the tokenizer fails on this text: {error}", 2
        elif isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
            message, code = f"not enough memory: take a smaller model, batch or text ({error})", 2
        else:
            raise
    finally:
        warnings.showwarning = showwarning
        _flush_or_drop(sys.stdout)
    if message:
        # Names in a file from elsewhere must not move the cursor or colour the terminal.
        plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(message.split()))
        _say(f"error: {plain}")
    raise SystemExit(code)


@contextmanager
def naming_flags(settings: type) -> Iterator[None]:
    """Within the block, messages name flags of a command instead of parameters of a function: `source='de'` becomes
    `--source 'de'`, where `settings`, a dataclass, has a field of that name or `other_names` has one for it."""
    flags = {field.name: field.name for field in dataclasses.fields(settings)} | getattr(settings, "other_names", {})
    parameter = re.compile(rf"(?<![\w.-])({'|'.join(flags)})=(?=(\S)?)")

    def in_flags(message: object) -> str:
        return parameter.sub(
            lambda found: f"--{flags[found[1]].replace('_', '-')}{' ' if found[2] and found[2] not in ',;:)' else ''}",
            str(message),
        )

    showwarning = warnings.showwarning
    warnings.showwarning = lambda message, *rest, **more: showwarning(in_flags(message), *rest, **more)
    try:
        yield
    except InputError as error:
        error.args = (in_flags(error),)
        raise
    finally:
        warnings.showwarning = showwarning


def _leave(*_: Any) -> None:
    os._exit(130)


def _leave_on_interrupt() -> None:
    """While a command imports its libraries, which takes seconds, Ctrl-C ends it at once, without a traceback; then
    `reported_to_user` takes over. Does nothing in programs that only import the library."""
    is_command = Path(*sys.argv[:1]).name in ("-m", "minitransformer")  # "-m" until the module of `python -m` is found
    if is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


@contextmanager
def _ctrl_c() -> Iterator[None]:
    """Within the block Ctrl-C is a `KeyboardInterrupt` in the end, even where a library makes another error of it."""
    pressed = False

    def press(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) in (_leave, signal.default_int_handler)
    if ours:
        signal.signal(signal.SIGINT, press)
    try:
        yield
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _say(line: str) -> None:
    """Print to standard error, unless that is full or closed."""
    with suppress(OSError):
        print(line, file=sys.stderr)
    _flush_or_drop(sys.stderr)


def _open_missing_streams() -> None:
    """Python has None for a standard stream that was closed; `print` would then write errors to standard output, and
    the next file to be opened would take the stream's number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115


@contextmanager
def _escapes() -> Iterator[None]:
    """Within the block standard output escapes the characters that its encoding lacks; at the end a warning counts
    them."""
    count, stream = 0, sys.stdout

    def escape(error: UnicodeError) -> Any:
        nonlocal count
        count += error.end - error.start if isinstance(error, UnicodeEncodeError) else 0
        return codecs.backslashreplace_errors(error)

    if getattr(stream, "errors", None) != "strict" or not hasattr(stream, "reconfigure"):
        yield
        return
    codecs.register_error("minitransformer.escape", escape)
    stream.reconfigure(errors="minitransformer.escape")
    try:
        yield
    finally:
        with suppress(OSError):  # it writes what is buffered; `_flush_or_drop` sees to a full disk
            stream.reconfigure(errors="strict")
        if count:
            warnings.warn(
                f"{count:,} characters are written as escapes, since the encoding of standard output, "
                f"{stream.encoding}, lacks them: set PYTHONIOENCODING=utf-8",
                stacklevel=2,
            )


def _flush_or_drop(stream: Any) -> None:
    """The interpreter writes at exit what a stream still holds, and must not complain again that it cannot."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_leave_on_interrupt()
