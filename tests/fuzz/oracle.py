"""Holds a restored host against the lost one: what differs must have been told, or be documented.

The table of docs/what-a-backup-contains.md is what this follows.  A difference must be named by a warning,
whatever the page says of it, unless the page calls it not covered.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Facts = dict[str, dict[str, Any]]

TAG = re.compile(r"odd\d+x")
# Mattermost derives these from posts and files, and refreshes them by itself; a restore does too.
DERIVED = ("poststats", "posts_by_team_day", "file_stats", "bot_posts_by_team_day")
# What the page calls not covered, or what is no part of the host's own: (what, aspect).
NOT_COVERED = tuple(
    (re.compile(what), re.compile(aspect))
    for what, aspect in (
        (rf"rows of public\.({'|'.join(DERIVED)})$", ".*"),
        (
            r"(slot|dump DATABASE|dump DATABASE PROPERTIES|dump (ACL|COMMENT) - DATABASE) .*",
            ".*",
        ),  # see the catalogs
        (r"dump (ACL|COMMENT) - SCHEMA public", ".*"),
        (r"extension .*", "version"),
        (r"rows of public.odd\d+x_stale", ".*"),  # which is refreshed
        (r"file .*/[^/]*\.sock", "is gone"),
    )
)
# Which words a warning must have that tells of a difference in an aspect, beside the name.
WORDS = {
    "is gone": "|".join(
        (
            *(
                "not in the set",
                "left out",
                "leaves? it out",
                "not put back",
                "link to",
                "takes? a superuser",
            ),
            *(
                "create it again",
                "in no set",
                "No large object",
                "makes Mattermost's role",
                "is not valid",
            ),
        )
    ),
    "mode": r"set-user-id|set-group-id",
    "names": "hard link",
    "access lists": r"access control list",
    "attributes": r"extended attribute",
    "owner": r"owner|belongs|owns",
    "group": r"number without a name",
    "tablespace": r"[Tt]ablespace",
    "version": r"version",
}
# Warnings that are right although nothing differs: they tell of the old host itself, which comes back as it
# was, or of what another host may not have, which the new one of a cycle happens to have.
RIGHT_ANYWAY = re.compile(
    "|".join(
        (
            r"is behind its column",
            r"uploads looked at are missing on disk",
            r"is a number without a name",  # its number has no account on the new host either
            # Each host has what these lead to.
            r"is a link to '(?:/|(?:\.\./)+\.\.|/usr/.*|/dev/null)', which is not in the set",
            r"did not pass its rehearsal",
            r"is not IMMUTABLE",  # a load may have the rows in the right order by chance
        )
    )
)
# Warnings that name the first few of a kind, and count the rest.
COUNTED = {
    "is gone": r"\d+ more links lead to what is not in the set",
    "access lists": r"and \d+ more",
    "attributes": r"and \d+ more",
    "owner": r"owns .* and \d+ more",
    "tablespace": r"and \d+ more",
}


@dataclass(frozen=True)
class Difference:
    """What is not as it was: of what, in which aspect, and the values."""

    what: str
    aspect: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.what}: {self.aspect}: {_short(self.before)} -> {_short(self.after)}"

    @property
    def names(self) -> set[str]:
        """Words by one of which a warning may name it."""
        text = f"{self.what} {self.before} {self.after}"
        names = set(TAG.findall(text))
        if self.what.startswith("setting "):
            names.add(self.what.rpartition(" ")[2])
        if self.what.startswith("extension "):
            names.add(self.what.partition(" ")[2])
        if self.what.startswith("large object "):
            names.add("No large object")
        names.update(re.findall(r"(\w+)\(", self.what))
        names.update(re.findall(r" - (?:EXTENSION )?([a-z_]+)$", self.what))
        names.update(re.findall(r"CAST - CAST (\(.*\))$", self.what))
        return names


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 300 else f"{text[:300]}..."


def differences(before: Facts, after: Facts) -> list[Difference]:
    """What of the host differs, but for what is documented."""
    found = []
    for what in sorted({*before, *after}):
        old, new = before.get(what), after.get(what)
        if old is None or new is None:
            found.append(Difference(what, "is gone" if new is None else "is new", old, new))
            continue
        found += [
            Difference(what, aspect, old.get(aspect), new.get(aspect))
            for aspect in sorted({*old, *new})
            if old.get(aspect) != new.get(aspect)
        ]
    return [difference for difference in found if not _is_documented(difference, before, after)]


def _is_documented(difference: Difference, before: Facts, after: Facts) -> bool:
    # Where one file lies in two of Mattermost's directories, hard links are given up.
    shared = before.get("host files", {}).get("in two directories")
    if shared and (difference.aspect == "names" or difference.what == "host files"):
        return True
    if any(
        what.fullmatch(difference.what) and aspect.fullmatch(difference.aspect)
        for what, aspect in NOT_COVERED
    ):
        return True
    # What Mattermost's role had in all databases it then has in this one.
    everywhere = before.get(difference.what.replace(" here ", " everywhere "))
    here = after.get(difference.what.replace(" everywhere ", " here "))
    return difference.what.startswith("setting ") and everywhere is not None and everywhere == here


def judge(found: Sequence[Difference], told: Sequence[str]) -> tuple[list[Difference], list[str]]:
    """Return the differences that nothing told, and the warnings that no difference answers to."""
    words = list(dict.fromkeys(told))
    untold, used = [], set()
    for difference in found:
        telling = [sentence for sentence in words if tells(sentence, difference)]
        used.update(telling)
        if not telling:
            untold.append(difference)
    return untold, [word for word in words if word not in used and not RIGHT_ANYWAY.search(word)]


def tells(sentence: str, difference: Difference) -> bool:
    """Whether a warning tells of a difference: it names it, or it counts those of its kind."""
    if difference.what.startswith("file config.json") and sentence.startswith(
        "config.json was a link to"
    ):
        return True  # a copy then, by the set's settings.json
    if not re.search(WORDS.get(difference.aspect, ""), sentence):
        return False
    counted = COUNTED.get(difference.aspect)
    if (
        counted
        and re.search(counted, sentence)
        and (difference.aspect != "is gone" or _is_file(difference))
    ):
        return True
    return any(name in sentence for name in difference.names)


def _is_file(difference: Difference) -> bool:
    return difference.what.startswith("file ")


def plain_html(page: str) -> str:
    """The text of a page."""
    return one_line(html.unescape(re.sub(r"<[^>]*>", " ", page)))


def one_line(text: str) -> str:
    return " ".join(text.split())


def lines(found: Iterable[object]) -> str:
    return "\n".join(f"  {difference}" for difference in found)
