"""The measurements at work, on next to no data: numbers are for `make bench`."""

from __future__ import annotations

import os
from pathlib import Path

from tests.bench import bars, contests, host


def test_a_contest_measures_and_leaves_nothing(deb: Path) -> None:
    with host.host(0.001) as server:
        lines: list[str] = []
        group = contests.backup(server, 1, lines.append)
        assert server.lab.run("stat", "-f", "-c", "%T", host.SETS).stdout != "tmpfs\n"
        assert server.gitlab.sql("SHOW fsync") == ["on"]
        rows = bars.rows({"backup": group})

    assert len(lines) == 7, "two rounds of three, and the seed's script once"
    assert len(rows) == 6
    for name in ("ours", "by hand", "seed"):
        (sample,) = group[name].samples
        assert sample.wall > 0.01 and sample.cpu > 0.01 and sample.bytes > 100_000, name
    assert 1_000_000 < group["by hand"].peak < group["ours"].peak < 200_000_000
    assert list(host.DISKS.glob(f"{os.getpid()}-*")) == []
