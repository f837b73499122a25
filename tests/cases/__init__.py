"""Reported cases: inputs that broke others, or that somebody attacked with, and what the program does.

One table for all of them, so that each input has its result in one place, and names the tests that
hold it. `python -m tests.cases` makes docs/reported-cases.md of it; tests/unit/package/test_cases.py holds both.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One input, who reported it, and what comes of it."""

    number: str  # within its group, as the collection of reports has it
    source: str  # public project and number of the report, or the attacker
    given: str
    result: str
    tests: tuple[str, ...]  # below tests/, as pytest names them, without parameters
    refused: bool = False  # the input is not to pass; the result says why


@dataclass(frozen=True)
class Group:
    """Cases of one kind."""

    title: str
    words: str  # what is common to them
    source: str  # head of that column
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Finding:
    """Something that a new user met, and what there is now."""

    found: str
    now: str
    tests: tuple[str, ...]  # as those of a case


@dataclass(frozen=True)
class Topic:
    """Findings about one subject."""

    title: str
    findings: tuple[Finding, ...]
