"""What the manual's pages about the terminal show: made here from runs, and compared with new ones.

python -m tests.system.helpers.captures    # as root: writes the examples into the pages anew
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.base import build_base, build_deb
from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab
from tests.system.helpers.terminals import on_a_terminal

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGES = {80: DOCS / "terminal.md", 120: DOCS / "terminal-wide.md"}
CONFIG = "/etc/gitlab-mm-backup/config.yml"
SETS = "/var/opt/gitlab/backups/mattermost"
ACCEPTED = "accept_warnings: [off-site copies]\n"
# While the cursor is hidden, steps stay and the rest moves; it is off the screen in the end.
MOVING = re.compile(r"\x1b\[\?25l(.*?)\x1b\[\?25h", re.DOTALL)
STEP = re.compile(r"\d\d:\d\d:\d\d \S+  ")
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
ROW = re.compile(r"  (\S[\w. ]*?) +[━╸╺]+ (.*)")


@dataclass(frozen=True)
class Host:
    """A server in a lab, with our package, on a terminal of so many columns."""

    lab: Lab
    gitlab: Omnibus
    product: Product
    first: str  # the set that was rehearsed

    def tidy(self) -> None:
        """Remove all other sets, which captures have made."""
        names = [path.name for path in self.lab.path(SETS).iterdir() if path.name[0] != "."]
        self.lab.run("rm", "-rf", *(f"{SETS}/{name}" for name in names if name != self.first))

    def on_a_terminal(self, columns: int, *command: str, answer: str = "") -> str:
        """All that a command writes on a terminal."""
        env = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        answers = (answer,) if answer else ()
        done = on_a_terminal(self.lab, *command, answers=answers, columns=columns, env=env)
        return done.stdout

    def shown(self, columns: int, *command: str, answer: str = "") -> list[str]:
        return shown(self.on_a_terminal(columns, *command, answer=answer))

    @contextmanager
    def settings(self, text: str) -> Iterator[None]:
        """Other settings for the block."""
        self.lab.write(CONFIG, text, mode=0o640)
        yield
        self.lab.write(CONFIG, ACCEPTED, mode=0o640)

    @contextmanager
    def damaged(self) -> Iterator[None]:
        """A newest set whose dump is cut short, for the block."""
        newest = self.product("backup").document["set"]
        part = self.lab.path(f"{SETS}/{newest}/database.dump.zst")
        part.write_bytes(part.read_bytes()[:-1])
        yield
        self.lab.run("rm", "-r", f"{SETS}/{newest}")

    @contextmanager
    def signed_out(self) -> Iterator[None]:
        """Another secret in GitLab for the block, in the same form."""
        there = "gitlabhq_production"
        (stored,) = self.gitlab.sql("SELECT secret FROM oauth_applications", there)
        other = stored[:-1] + ("b" if stored[-1] == "a" else "a")
        self.gitlab.sql(f"UPDATE oauth_applications SET secret = '{other}'", there)
        yield
        self.gitlab.sql(f"UPDATE oauth_applications SET secret = '{stored}'", there)


@contextmanager
def host(base: Path, deb: Path) -> Iterator[Host]:
    """A host with uploads that take a moment, one rehearsed set, and a backup every night."""
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        gitlab.seed()
        large = f"{gitlab.home}/data/large"
        lab.run("sh", "-c", f"head -c 50331648 /dev/urandom >{large}")
        lab.run("chown", "mattermost:mattermost", large)
        lab.run("cron")
        product = install_product(lab, deb)
        lab.write(CONFIG, ACCEPTED, mode=0o640)
        first = Path(product.backup()).name
        assert product("rehearse").code == 0
        yield Host(lab, gitlab, product, first)


def shown(written: str) -> list[str]:
    """The lines that stay on a terminal, without their colours."""
    found = []
    for place, piece in enumerate(MOVING.split(written)):
        lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", piece).splitlines()
        found += [line for line in lines if STEP.match(line) or place % 2 == 0]
    return [line.rstrip() for line in found if line.strip()]


def frames(written: str) -> list[list[str]]:
    """What moved below the steps, one picture after the other: the spinner's line, and the bars."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    found = []
    for picture in re.split(rf"(?=[{SPINNER}] )", plain)[1:]:
        head, *others = (line.rstrip() for line in re.split(r"[\r\n]+", picture))
        found.append([head, *(line for line in others if ROW.fullmatch(line))])
    return found


def folded(lines: list[str], columns: int) -> list[str]:
    """Lines as a terminal breaks them."""
    return [
        line[start : start + columns]
        for line in lines
        for start in range(0, max(1, len(line)), columns)
    ]


def unfolded(lines: list[str], columns: int) -> list[str]:
    """Lines before a terminal has broken them."""
    found, going_on = list[str](), False
    for line in lines:
        found[-1:] = [found[-1] + line] if going_on else [*found[-1:], line]
        going_on = len(line) == columns
    return found


Capture = Callable[[Host, int], "list[str]"]


def _restore(at: Host, columns: int) -> list[str]:
    return at.shown(columns, "gitlab-mm", "restore", "--yes")


def _fullest_frame(at: Host, columns: int) -> list[str]:
    """The end of the screen in the middle of a restore, when it had the most to show."""
    written = at.on_a_terminal(columns, "gitlab-mm", "restore", "--yes")
    return max(frames(written), key=lambda frame: (built(frame) > 0, len(frame), built(frame)))


def _list(at: Host, columns: int) -> list[str]:
    at.product.backup()
    return at.shown(columns, "gitlab-mm", "list")


def _warned(at: Host, columns: int) -> list[str]:
    with at.settings(""):
        return at.shown(columns, "gitlab-mm", "status")


def _bad(at: Host, columns: int) -> list[str]:
    with at.damaged():
        return at.shown(columns, "gitlab-mm", "status")


def _broken(at: Host, columns: int) -> list[str]:
    with at.signed_out():
        return at.shown(columns, "gitlab-mm", "sso", "check")


def _diff(at: Host, columns: int) -> list[str]:
    """What has changed since a set, when a message was deleted."""
    change = "UPDATE posts SET deleteat = {} WHERE message LIKE 'Deployed release%'"
    at.gitlab.sql(change.format(1796074400000))
    try:
        return at.shown(columns, "gitlab-mm", "diff", "latest")
    finally:
        at.gitlab.sql(change.format(0))


def _extract(at: Host, columns: int) -> list[str]:
    return at.shown(columns, *EXTRACT.split())


EXTRACT = "gitlab-mm extract --channel engineering/releases --page --to /root/found"

#: In the order of the pages: the command that an example begins with, and how it is made.
CAPTURES: dict[str, tuple[str, Capture]] = {
    "backup": ("gitlab-mm backup", lambda at, columns: at.shown(columns, "gitlab-mm", "backup")),
    "list": ("gitlab-mm list", _list),
    "good": ("gitlab-mm status", lambda at, columns: at.shown(columns, "gitlab-mm", "status")),
    "warning": ("gitlab-mm status", _warned),
    "bad": ("gitlab-mm status", _bad),
    "prompt": (
        "gitlab-mm restore",
        lambda at, columns: at.shown(columns, "gitlab-mm", "restore", answer="n"),
    ),
    "restore": ("gitlab-mm restore --yes", _restore),
    "bars": ("", _fullest_frame),
    "works": (
        "gitlab-mm sso check",
        lambda at, columns: at.shown(columns, "gitlab-mm", "sso", "check"),
    ),
    "broken": ("gitlab-mm sso check", _broken),
    "info": ("gitlab-mm info", lambda at, columns: at.shown(columns, "gitlab-mm", "info")),
    "ls": ("gitlab-mm ls", lambda at, columns: at.shown(columns, "gitlab-mm", "ls")),
    "find": (
        "gitlab-mm find --text release",
        lambda at, columns: at.shown(columns, "gitlab-mm", "find", "--text", "release"),
    ),
    "diff": ("gitlab-mm diff latest", _diff),
    "extract": (EXTRACT, _extract),
    "open": (
        "gitlab-mm open --as alice --for 1s",
        lambda at, columns: at.shown(columns, "gitlab-mm", "open", "--as", "alice", "--for", "1s"),
    ),
}


def capture(name: str, at: Host, columns: int) -> list[str]:
    """Make an example anew."""
    at.tidy()
    return CAPTURES[name][1](at, columns)


BLOCK = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(columns: int) -> dict[str, list[str]]:
    """The examples of a page, by their names, without their commands."""
    found, page = {}, PAGES[columns]
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert len(blocks) == len(CAPTURES), page
    for (name, (command, _)), block in zip(CAPTURES.items(), blocks):
        lines = block.splitlines()
        if command:
            assert lines[0] == f"$ {command}", (page, name)
        found[name] = lines[1:] if command else lines
    return found


def masked(lines: list[str]) -> str:
    """Lines without what differs from one run to the next; where they are broken does not count."""
    joined = " ".join(" ".join(lines).split())
    joined = re.sub(r"(?<=/mattermost/)[\w. -]+(?=/)", "#", joined)  # a path that is broken
    joined = re.sub(r"(?:[0-9a-f]{4}-){7}[0-9a-f]{4}", "key", joined)
    joined = re.sub(r"(?<=:8066/)[\w-]{32}", "key", joined)
    joined = re.sub(r"\d{10}_[\w.]+-[0-9a-f]{6}", "#", joined)
    joined = re.sub(r"[0-9a-f]{8}, installation \w{8}", "host", joined)
    joined = re.sub(r"\d+(?:[ .,:_-]+\d+)*", "#", joined)
    joined = re.sub(r"# (?:[KMGT]i)?B\b|# (?:s|min|h|d)\b", "# U", joined)
    joined = re.sub(r"(id|secret) \w{4}…", r"\1 ####…", joined)
    return joined.replace(" ", "")


def rows(frame: list[str]) -> dict[str, str]:
    """The bars of a picture by their names: what is done, masked, without the time that is left."""
    found = (ROW.fullmatch(line) for line in frame)
    return {row[1]: re.sub(r",#Uleft$", "", masked([row[2]])) for row in found if row}


def rewrite(page: Path, blocks: Sequence[Sequence[str]]) -> None:
    """Replace the examples of a page, and leave the text between them."""
    left = iter(blocks)
    text = page.read_text(encoding="utf-8")
    made = BLOCK.sub(lambda _: "\n".join(["```text", *next(left), "```"]), text)
    page.write_text(made, encoding="utf-8")


def built(frame: list[str]) -> int:
    """How many indexes are built in a picture."""
    found = [re.search(r"  indexes .* (\d+) of \d+", line) for line in frame]
    return max((int(match[1]) for match in found if match), default=0)


def main() -> int:
    """Write the examples anew."""
    with host(build_base(), build_deb()) as at:
        for columns, page in PAGES.items():
            blocks = [
                [
                    *([f"$ {command}"] if command else []),
                    *folded(capture(name, at, columns), columns),
                ]
                for name, (command, _) in CAPTURES.items()
            ]
            rewrite(page, blocks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
