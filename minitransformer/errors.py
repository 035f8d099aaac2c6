"""Errors that a user's input causes, and how a program reports them."""

import dataclasses
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """A user handed in something unusable; the message gives the value and the way out."""


@contextmanager
def reported_to_user() -> Iterator[None]:
    """Turn an `InputError` or an operating-system error into one line on stderr and exit code 2, a warning into a line.

    Any other exception is a bug and keeps its traceback.
    """
    showwarning = warnings.showwarning
    # One line as well, without the place in our source.
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        yield
        sys.stdout.flush()
    except InputError as error:
        message = str(error)
    except BrokenPipeError:
        # The program that read our output has ended (`... | head`), which is no error. The interpreter flushes once
        # more at exit and must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as error:
        message = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # how the tokenizers library fails over a tokenizer.json
            raise
        message = f"the tokenizer fails on this text: {error}"
    else:
        return
    finally:
        warnings.showwarning = showwarning
    # Names in a file from elsewhere must not move the cursor or colour the terminal.
    plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(message.split()))
    print(f"error: {plain}", file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def naming_flags(settings: type) -> Iterator[None]:
    """Within the block, messages name flags of a command instead of parameters of a function: `source='de'` becomes
    `--source 'de'`, where `settings`, a dataclass, has a field of that name."""
    names = "|".join(field.name for field in dataclasses.fields(settings))
    parameter = re.compile(rf"(?<![\w.-])({names})=(?=(\S)?)")

    def in_flags(message: object) -> str:
        return parameter.sub(
            lambda found: f"--{found[1].replace('_', '-')}{' ' if found[2] and found[2] not in ',;:)' else ''}",
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
