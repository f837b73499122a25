"""The start of gitlab-mm: whoever asks for its help or version alone waits for nothing else.

Both lie beside this module as debian/rules keeps them when it builds the package; where they do
not, as in a checkout, the command line answers itself.
"""

from __future__ import annotations

import os
import sys

FOLDER = os.path.dirname(os.path.dirname(__file__))
_KEPT: dict[tuple[str, ...], str] = {
    ("--help",): "kept-help",
    ("-h",): "kept-help",
    ("--version",): "kept-version",
}
_WIDTH = 80  # columns that the help is kept for; click asks for no more


def main() -> None:
    """Entry point of gitlab-mm."""
    name = _KEPT.get(tuple(sys.argv[1:]))
    if name is None or not _wide_enough() or not _told(name):
        from . import main as cli_main

        cli_main.main()


def _told(name: str) -> bool:
    """Print what is kept; tell whether there was something."""
    try:
        with open(os.path.join(FOLDER, name), "rb") as file, open(1, "wb", closefd=False) as out:
            out.write(file.read())
    except OSError:
        return False
    return True


def _wide_enough() -> bool:
    """Tell whether the terminal, if there is one, shows lines of that width."""
    try:
        columns = os.environ.get("COLUMNS") or os.get_terminal_size(1).columns
        return int(columns) >= _WIDTH
    except (OSError, ValueError):
        return True
