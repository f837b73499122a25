"""The pure parts of the measurements: medians, ratios, tables, and what is met."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.bench import bars, by_hand, page, results
from tests.bench.__main__ import main
from tests.bench.data.plan import Plan, draw_sizes
from tests.bench.figures import Measured, Sample, median, ratio


def took(*walls: float, **more: float) -> Measured:
    """What a contender took, round by round."""
    peak = int(more.pop("peak", 0))
    cpu, bytes_ = more.pop("cpu", 1.0), int(more.pop("bytes", 1000))
    return Measured([Sample(wall, cpu, bytes_, more) for wall in walls], peak)


BACKUP = {
    "ours": took(2.0, 2.2, 1.8, bytes=1040, cpu=3.0, peak=120_000_000),
    "verify": took(0.3, 0.3, 0.9),
    "by hand": took(4.0, 3.0, 2.5, cpu=3.5, peak=400_000_000),
    "seed": took(150.0, share=1.0),
}


def test_the_median_is_not_moved_by_one_bad_round() -> None:
    assert median(took(1.0, 9.0, 1.2)) == 1.2
    assert median(took(1.0, downtime=0.5), "downtime") == 0.5


def test_a_ratio_is_that_of_the_same_round() -> None:
    found = ratio(took(1.0, 4.0, 3.0), took(2.0, 4.0, 4.0))
    assert (found.median, found.least, found.most, found.rounds) == (0.75, 0.5, 1.0, 3)


def test_a_single_round_stands_against_every_other() -> None:
    found = ratio(took(1.0, 4.0, 3.0), took(2.0))
    assert (found.median, found.least, found.most, found.rounds) == (1.5, 0.5, 2.0, 1)


def rows_by_name(found: bars.Results) -> dict[str, bars.Row]:
    return {row.what: row for row in bars.rows(found)}


def test_bars_of_a_backup() -> None:
    found = rows_by_name({"backup": BACKUP})
    seed = found["backup, wall, against the seed's script"]
    assert (seed.measured, seed.met) == ("1/75 (n=1)", True)
    hand = found["backup, wall, against the same by hand at the same time"]
    assert (hand.measured, hand.met) == ("0.72 (0.5 to 0.733, n=3)", True)
    assert found["backup, bytes, against the seed's xz and -Fc"].met
    assert "peak memory" in [*found][-1]


def test_the_fraction_that_xz_was_given_is_told() -> None:
    found = rows_by_name({"backup": {**BACKUP, "seed": took(90.0, share=0.25)}})
    seed = found["backup, wall, against the seed's script"]
    assert (seed.measured, seed.met) == (
        "1/45 (n=1, its xz on 25% of the files, reckoned up)",
        False,
    )


def test_only_our_memory_counts() -> None:
    (row,) = [row for row in bars.rows({"backup": BACKUP}) if row.what.startswith("peak")]
    assert (row.measured, row.met) == ("120 MB (backup: ours)", True)
    (row,) = [
        row
        for row in bars.rows({"backup": {**BACKUP, "ours": took(2.0, 2.0, 2.0, peak=251_000_000)}})
        if row.what.startswith("peak")
    ]
    assert not row.met


def growth(*, most: float, apart: float = 1.0) -> bars.Group:
    """Contests at a quarter, a half and the whole."""
    return {
        f"{job} at {scale:g}": took(wall, apart=quiet)
        for job in ("backup", "verify", "ours")
        for scale, wall, quiet in ((0.25, 1.0, 1.0), (0.5, 2.0, 1.0), (1.0, most, apart))
    }


@pytest.mark.parametrize(("most", "met"), [(3.0, True), (4.6, True), (4.7, False)])
def test_growth_is_linear_within_15_percent(most: float, met: bool) -> None:
    found = rows_by_name({"growth": growth(most=most)})
    row = found["growth of restore, wall, from 0.25 of the size to 1"]
    assert (row.bar, row.met) == ("≤ 4 · 1.15 = 4.6", met)


def test_downtime_without_loads_does_not_grow() -> None:
    title = "downtime without the loads, from 0.25 of the size to 1"
    assert rows_by_name({"growth": growth(most=4.0)})[title].met
    assert not rows_by_name({"growth": growth(most=4.0, apart=1.3)})[title].met


def test_a_restore_stands_against_hand_and_recipe() -> None:
    group = {
        "ours": took(8.0, downtime=7.0, apart=2.5),
        "search later": took(8.0, downtime=3.0, apart=2.5),
        "uploads later": took(8.0, downtime=2.0, apart=1.5),
        "by hand at its best": took(7.0, downtime=7.0),
        "recipe": took(14.0, downtime=10.0),
        "start": took(1.5),
    }
    met = {name: row.met for name, row in rows_by_name({"restore": group}).items()}
    assert met == {
        "restore, wall, against `pg_restore -j` and unpack by hand at their best": False,
        "restore, wall, against the serial recipe by hand": True,
        "stop to answered ping with `--search-later`, against the serial recipe by hand": True,
        "stop to answered ping with `--search-later --uploads-later`, "
        "against the serial recipe by hand": False,
        "downtime of a restore without the loads, beyond Mattermost's own start": True,
    }


def test_tables_keep_their_columns() -> None:
    assert page.table(("a", "b"), [("long", "1"), ("x", "22")]).splitlines() == [
        "| a    | b  |",
        "| ---- | -- |",
        "| long | 1  |",
        "| x    | 22 |",
    ]


def test_figures_have_a_column_for_what_only_some_have() -> None:
    group = {"ours": took(2.0, peak=1_500_000, downtime=0.5), "warm": Measured([], 7_000_000)}
    lines = [" ".join(line.split()) for line in page.figures(group).splitlines()]
    assert lines[0] == "| | wall, s | CPU, s | peak, MB | MB | down, s | rounds |"
    assert lines[2:] == ["| ours | 2.00 | 1.00 | 2 | 0.0 | 0.500 | 1 |", "| warm | | | 7 | | | 0 |"]


def test_contests_are_kept_and_join_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "FILE", tmp_path / "results.json")
    results.load(0.25, 3).add("backup", BACKUP, 0.1)
    results.load(0.25, 3).add("growth", growth(most=4.0), 0.1)
    again = results.load(0.25, 3)
    assert again.results == {"backup": BACKUP, "growth": growth(most=4.0)}
    assert results.load(0.5, 3).contests == {}

    document = tmp_path / "performance.md"
    document.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    monkeypatch.setattr(page, "PAGE", document)
    page.write(again)
    written = document.read_text()
    assert written.startswith("before\n") and written.endswith("after\n") and "old" not in written
    assert "### Backup and verification" in written and "NOT MET" not in written


def test_the_page_has_a_place_for_the_tables() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert text.count(page.BEGIN) == text.count(page.END) == 1


def test_the_recipe_is_the_document_without_its_reconfigure() -> None:
    script = by_hand.recipe("/srv/set")
    assert "cd /srv/set\nsha256sum --check SHA256SUMS\ngitlab-ctl stop mattermost\n" in script
    assert script.endswith("gitlab-ctl start mattermost\nanswered\n")
    assert "reconfigure" not in script.replace("reconfigure and", "")


def test_the_data_is_the_same_every_time_and_grows_by_a_hundredth() -> None:
    first, again, night = Plan(1, 0.02, 0), Plan(1, 0.02, 0), Plan(1, 0.02, 1)
    assert first.uploads == again.uploads and first.users == again.users == night.users
    assert night.posts == first.posts // 100
    assert min(upload.at for upload in night.uploads) >= first.end
    assert len({upload.path for upload in first.uploads + night.uploads}) == len(
        first.uploads
    ) + len(night.uploads)


def test_sizes_come_to_the_total() -> None:
    sizes = draw_sizes(random.Random(1), 500, 3e8)
    assert abs(sum(sizes) - 3e8) < 3e6


def test_an_unknown_contest_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--only", "backup,speed"])
    assert stopped.value.code == 2
    assert "no contest speed" in capsys.readouterr().err


def test_frames_and_ten_times_the_uploads() -> None:
    group = {
        "uploads": {
            "all uploads": took(1.0, downtime=2.2),
            "a tenth of them": took(1.0, downtime=2.0),
        },
        "framing": {
            "in frames": took(2.1, cpu=2.0),
            "by hand: in one frame": took(2.0, cpu=2.0),
        },
    }
    assert [(row.measured, row.met) for row in bars.rows(group)] == [
        ("1.1 (n=1)", True),
        ("1.05 (n=1)", False),
        ("1 (n=1)", True),
    ]


def test_bars_of_one_thing_out_of_a_set() -> None:
    group = {
        "one upload": took(0.2, 0.2, 0.4),
        "by hand: all": took(5.0, 5.0, 5.0),
        "frames": took(0.0, bytes=1005),
        "by hand: one frame": took(1.0, bytes=1000),
        "find": took(2.5, 1.9, 1.8),
    }
    found = bars.rows({"things": group})
    assert [(row.measured, row.met) for row in found] == [
        ("0.04 (0.04 to 0.08, n=3)", True),
        ("1 (n=1)", True),
        ("1.90 s", True),
    ]
