"""The limit on bytes a second holds for all threads together."""

from __future__ import annotations

import threading
import time

from gitlab_mm_backup.store.local import Throttle


def test_what_passes_takes_its_time_whoever_asks() -> None:
    throttle = Throttle(1000)
    began = time.monotonic()
    threads = [threading.Thread(target=throttle.wait, args=(50,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= 0.2


def test_an_idle_time_is_not_made_up_for() -> None:
    throttle = Throttle(1000)
    throttle.wait(1)
    time.sleep(0.05)
    began = time.monotonic()
    throttle.wait(30)
    assert time.monotonic() - began >= 0.03


def test_without_a_limit_nobody_waits() -> None:
    began = time.monotonic()
    Throttle(None).wait(10**15)
    assert time.monotonic() - began < 1
