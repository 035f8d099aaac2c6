"""What goes wrong because of what a user handed in, and how a program says so."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """A user handed in something unusable; the message gives the value and the way out."""


@contextmanager
def reported_to_user() -> Iterator[None]:
    """Turn an `InputError` or an operating-system error into one line on stderr and exit code 2.

    Any other exception is a bug and keeps its traceback.
    """
    try:
        yield
    except InputError as error:
        message = str(error)
    except BrokenPipeError:
        # The reader of our output went away (`... | head`): not an error of the user's.
        sys.stderr.close()
        raise SystemExit(141) from None
    except OSError as error:
        message = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
    else:
        return
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)
