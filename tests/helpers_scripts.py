"""What the tests of scripts and commands share."""

import pytest


def refused(capsys, arguments, program):
    """The one line on standard error of a command that must end with exit code 2."""
    with pytest.raises(SystemExit) as exit_:
        program(arguments)
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]
