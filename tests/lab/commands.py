"""Waiting for commands that were started in a lab."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from tests.lab.errors import CommandFailed, LabTimeout


def finish(
    process: subprocess.Popen[Any], argv: Sequence[str], input: Any, check: bool, timeout: float
) -> subprocess.CompletedProcess[Any]:
    """Wait for a command and for the end of its output.

    Raises CommandFailed when it fails and `check` is set, LabTimeout after `timeout` seconds; a
    command that is not waited for any longer is killed.
    """
    try:
        stdout, stderr = process.communicate(input, timeout)
    except subprocess.TimeoutExpired:
        stdout, stderr = kill(process)
        done = subprocess.CompletedProcess(argv, -signal.SIGKILL, stdout, stderr)
        raise LabTimeout(f"no end after {timeout:g} s\n{CommandFailed(done)}") from None
    except BaseException:
        kill(process)
        raise
    done = subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)
    if check and done.returncode != 0:
        raise CommandFailed(done)
    return done


def kill(process: subprocess.Popen[Any]) -> tuple[Any, Any]:
    """Kill a command with its children; its output. A daemon may still hold the pipes."""
    os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=5)
    except subprocess.TimeoutExpired as expired:
        release(process)
        return expired.stdout, expired.stderr


def release(process: subprocess.Popen[Any]) -> None:
    """Close the pipes to a command that is dead or will soon be, and reap it."""
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    process.wait()
