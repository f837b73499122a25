"""Write manual pages, shell completions, the example of all options and its JSON Schema below a /usr/share.

    python3 debian/manual FOLDER

Pages and completions are generated from the command line, so that they equal --help, and from the
Markdown of this project; the example and its JSON Schema from the table of options. debian/rules runs
this program; it is not installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import completion  # noqa: E402 - the path above is for what these import
import documents  # noqa: E402
import manpages  # noqa: E402
import tree  # noqa: E402


def main(folder: Path) -> None:
    """Write every file below the folder."""
    programs = tree.programs()
    files = {**manpages.files(programs), **completion.files(programs), **documents.files()}
    for name, text in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
