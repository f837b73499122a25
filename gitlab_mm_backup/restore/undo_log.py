"""Undo: a stack of undo steps, each recorded before its action."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

from ..errors import ExitCode, Failure
from ..mattermost.journal import Step
from ..system import log, signals

Action = Callable[..., None]


class Undo:
    """Undo all steps when the ``with`` block ends, except after ``commit``.

    The last step is undone first; a failing undo does not stop the others. When one failed, the
    block raises a Failure with ExitCode.ATTENTION that names it.
    """

    def __init__(
        self,
        actions: Mapping[str, Action],
        note: Callable[[list[Step], list[Step]], None],
    ) -> None:
        """``note`` writes two lists to disk: the steps to undo, and those left to finish."""
        self._actions = actions
        self._note = note
        self._steps: list[Step] = []
        self._committed = False

    def will(self, action: str, **values: str) -> None:
        """Record the undo of an action, before the action."""
        self._add(Step(action, values))

    def will_last(self, action: str, **values: str) -> None:
        """Record an undo that must not run where an earlier one failed."""
        self._add(Step(action, values, last=True))

    def _add(self, step: Step) -> None:
        self._steps.append(step)
        self._note(self._steps, [])

    def commit(self, finish: list[Step]) -> None:
        """Make all steps final; ``finish`` is recorded as still to do."""
        signals.ignore()  # from here on an interruption could only be told wrongly
        self._note([], finish)
        self._committed = True

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._committed:
            return
        signals.ignore()
        problems = run(reversed(self._steps), self._actions)
        if problems:  # what is noted stays, for gitlab-mm restore --rollback
            raise Failure(
                "The operation failed, and not everything could be rolled back",
                "; ".join([*([log.bug_words(cause)] if cause else []), *problems]),
                "Fix the above, then run gitlab-mm restore --rollback.",
                ExitCode.ATTENTION,
            ) from cause
        self._note([], [])


def run(steps: Iterable[Step], actions: Mapping[str, Action]) -> list[str]:
    """Run all ``steps`` in order; return the problems as text."""
    problems: list[str] = []
    for step in steps:
        if step.last and problems:
            problems.append(f"{step.action}: not done because of the above")
            continue
        try:
            actions[step.action](**step.values)
        except Exception as error:  # a bug in one must not keep the others from being done
            problems.append(f"{step.action}: {log.bug_words(error)}")
    return problems
