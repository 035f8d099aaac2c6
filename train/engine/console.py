"""The console that every job prints to."""

import sys

from rich.console import Console


def wide_console() -> Console:
    """Standard output; where that is not a terminal, 120 columns wide, so that tables are not cut.

    Labels and paths are printed as they are: "[b]" or ":car:" in them is not markup.
    """
    return Console(width=None if sys.stdout.isatty() else 120, markup=False, emoji=False)
