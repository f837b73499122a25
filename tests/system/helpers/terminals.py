"""A command on a terminal in a lab, and somebody who answers its questions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from subprocess import CompletedProcess

from tests.lab.sandbox import PYTHON, Lab

# Runs argv[3:] on a terminal of argv[1] columns; each of argv[2] is typed when a question is there.
_PROGRAM = """
import fcntl, json, os, pty, struct, sys, termios

def reads(pid):  # a signal before the read has begun would be seen after it
    with open(f"/proc/{pid}/syscall") as call:
        return call.read().split()[1:2] == ["0x0"]

pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, int(sys.argv[1]), 0, 0))
    os.execvp(sys.argv[3], sys.argv[3:])
said, answers = b"", json.loads(sys.argv[2])
try:
    while piece := os.read(terminal, 4096):
        said += piece
        if answers and said.endswith(b"[y/N]: "):
            answer = answers.pop(0)
            while answer == "^C" and not reads(pid):
                pass
            os.write(terminal, b"\\x03" if answer == "^C" else answer.encode() + b"\\n")
except OSError:
    pass
sys.stdout.buffer.write(said)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def on_a_terminal(
    lab: Lab,
    *command: str,
    answers: tuple[str, ...] = (),
    columns: int = 80,
    cwd: str = "/",
    env: Mapping[str, str] | None = None,
) -> CompletedProcess[str]:
    """Run a command, and type the ``answers``; "^C" is the key. Its stdout has all that it shows."""
    line = (PYTHON, "-c", _PROGRAM, str(columns), json.dumps(answers), *command)
    return lab.run(*line, cwd=cwd, env=env, check=False, timeout=120)
