"""Wording that is not used any more, held against the documents page by page."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.unit.helpers.builders import ROOT

# Each was replaced by the field's own words; a space stands for a line break too.
WAS = (
    "Nothing needs to be set",
    "only tells",
    "at a minute of this host's own",
    "nights can cost what changed",
    "what it came to",
    "write the evidence",
    "for whoever must be shown",
    "It has a manifest, or it is no set",
    "a PostgreSQL and a folder of its own",
    "what holds and why",
    "what an option is for, what it may be",
    "for want of room",
    "Keep the present state until prune",
    "make them ones with",
    "keep it as you keep keys",
    "Before it: ",
    "none is open",
    "config.yml is right",
    "Nobody can be asked",
    "what is live is replaced",
    "Nothing was done",
    "the answer was not yes",
    "No place outside this machine is known",
    "with its disk all is lost",
    "Seen from the bridge",
    "a thing that never happened has none",
    "What it is to its neighbours",
    "keeps a table to himself",
    "would refuse to go back to",
    "no plain file",
    "is whole",
    "as far as it went",
    "Put right what is named",
    "Another run of gitlab-mm is at work",
    "Room:",
    "A pipe as tarfile(3) of a file wants it",
    "what nobody asks for is passed over",
    "nothing of it before what stands there has been found good",
    "Have the set near",
    "looked at before Mattermost stops, where that serves anybody",
    "A view of this host in which a program can change",
    "the store that the settings name, one for the whole run",
    "what it knows it keeps",
    "beside it piece by piece",
    "What of a set is not as it was written",
)
# The same in other forms, which documents had.
WAS_IN_DOCUMENTS = (
    "Only tell ",
    "in the next hour that the host is up",
    "a night costs what changed",
    "Nights that cost what changed",
    "of each set came to",
    "rehearsals came to",
    "writes the evidence",
    "plain files",
    "what one option is for, what it may be",
)
WAS_JAPANESE = (
    "`gitlab-mm kit` が印刷します",
    "GitLab サインインが終わる所で",
    "04:00 を過ぎたこのホスト固有の分に",
    "ホストが次に動いている時刻に",
    "リハーサルされます",
    "セットを証明する",
    "証明されたことを",
    "人に示すための証拠",
    "Mattermost を取り除く GitLab 19",
    "妨げになるものは",
    "毎晩かかるのは変わった分だけ",
    "届いた分から順に展開されます",
    "現在の状態を一目で",
    "このホストは準備ができているか",
    "稼働中の状態に手当てが必要",
    "apt は先に進まない",
    "ただし必ず読むべき警告がある",
    "稼働中の状態の隣に作ります",
    "ファイルのないアップロード",
    "安全セット",
    "外の世界の一つ一つ",
    "手で打つ場合と比べた",
    "復元に与えたすべての障害",
)
# As measured: they change with the next measurement.
GENERATED = {"performance.md", "terminal.md", "terminal-wide.md"}
DOCUMENTS = [
    path
    for pattern in ("*.md", "docs/*.md")
    for path in sorted(ROOT.glob(pattern))
    if path.name not in GENERATED
]
# Other text that a user or a developer reads.
OTHERS = [*ROOT.glob("gitlab_mm_backup/**/*.py"), *ROOT.glob("debian/manual/*.*")]
PAGES = [*DOCUMENTS, *OTHERS]


def found_in(text: str, phrases: tuple[str, ...]) -> list[str]:
    """Return the phrases that stand in ``text``, however its lines are broken."""
    joined = re.sub(r"\s+", " ", text).casefold()
    return [phrase for phrase in phrases if phrase.casefold() in joined]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_former_wording(path: Path) -> None:
    phrases = WAS if path in OTHERS else WAS + WAS_IN_DOCUMENTS
    assert found_in(path.read_text(encoding="utf-8"), phrases) == []


def test_no_former_wording_in_japanese() -> None:
    text = (ROOT / "README.ja.md").read_text(encoding="utf-8")
    assert [phrase for phrase in WAS_JAPANESE if phrase in text] == []


def test_japanese_typography() -> None:
    """One kind of colon, and a remark after each link to an English page."""
    text = (ROOT / "README.ja.md").read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```|`[^`]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"[^\x00-\x7f]: |: \[", prose) == []
    assert (
        re.findall(r"\]\((?:docs/|(?:SECURITY|CONTRIBUTING)\.md)[^)]*\)(?!\uff08英語\uff09)", prose)
        == []
    )
    assert re.findall(r"\*\* ", prose) == []


@pytest.mark.parametrize("folder", ["gitlab_mm_backup", "debian", "tests"])
def test_loop_variables_are_named_for_the_thing(folder: str) -> None:
    targets = [
        (path.relative_to(ROOT), name.lineno, name.id)
        for path in sorted((ROOT / folder).rglob("*.py"))
        for loop in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(loop, (ast.For, ast.comprehension))
        for name in ast.walk(loop.target)
        if isinstance(name, ast.Name)
    ]
    assert targets
    assert [target for target in targets if target[2] in ("one", "each")] == []


def test_a_phrase_is_found_over_line_breaks() -> None:
    assert found_in("The archive is\n  whole.", WAS) == ["is whole"]
