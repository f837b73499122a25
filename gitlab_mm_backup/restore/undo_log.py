"""Steps that can be taken back: a stack of undos, each written down before its act."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

from ..errors import ExitCode, Failure
from ..mattermost.journal import Step
from ..system import log, signals

Action = Callable[..., None]


class Undo:
    """On any way out of the ``with`` block but after ``commit``, take all steps back.

    The last one comes first; a failing undo does not stop those before it.  When one failed the
    exception that leaves the block is a Failure with ExitCode.ATTENTION which names it.
    """

    def __init__(
        self,
        actions: Mapping[str, Action],
        note: Callable[[list[Step], list[Step]], None],
    ) -> None:
        """``note`` makes two lists lasting: what to take back, and what is left to finish."""
        self._actions = actions
        self._note = note
        self._steps: list[Step] = []
        self._committed = False

    def will(self, action: str, **values: str) -> None:
        """Note, before an act, the action that takes it back."""
        self._add(Step(action, values))

    def will_last(self, action: str, **values: str) -> None:
        """The same, for an action that must not be done where one before it fails."""
        self._add(Step(action, values, last=True))

    def _add(self, step: Step) -> None:
        self._steps.append(step)
        self._note(self._steps, [])

    def commit(self, finish: list[Step]) -> None:
        """Make everything so far final; ``finish`` is noted as still to be done."""
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
    """Do ``steps`` in their order, all of them, and return what went wrong, in words."""
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
