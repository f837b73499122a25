"""The report: its verdict, what it says is missing, and that nothing on its page is taken as HTML."""

from __future__ import annotations

import html.parser
import json
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup.checks import Check, failed, not_run, passed
from gitlab_mm_backup.cli import health
from gitlab_mm_backup.config.settings import Rules
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.health import html as health_html
from gitlab_mm_backup.health import report as health_report
from gitlab_mm_backup.health.html import Chart, Series
from gitlab_mm_backup.health.rating import Rating
from gitlab_mm_backup.health.report import Protection, Report, report
from gitlab_mm_backup.store.check_records import CheckRecord, Depth
from gitlab_mm_backup.store.sets import SetEntry
from gitlab_mm_backup.system import humanize, redaction
from tests.unit.helpers.reports import GOOD, NOW, PROTECTED, ago, found, made_set, many, record_of

TONIGHT = made_set(ago(hours=2))
YESTERDAY = made_set(ago(hours=26, minutes=-1))
SAFETY = made_set(ago(hours=1), purpose="safety")
WHOLE = GOOD[:2]
BROKEN = (*WHOLE, failed("rows", "public.posts: 41, not 42"), not_run("boot", "rows failed"))
PARTLY = (*WHOLE, not_run("boot", "this host has no mattermost"))


def of(*entries: SetEntry, records: tuple[CheckRecord, ...] = (), **changes: Any) -> Report:
    return report(found(entries, records, **changes), PROTECTED)


def rehearsed(
    hours: float, *checks: Check, entry: SetEntry = TONIGHT, **changes: Any
) -> CheckRecord:
    """Return a record of tonight's set from that many hours ago."""
    return record_of(entry, ago(hours=hours), *checks, **changes)


# the verdict


@pytest.mark.parametrize(
    ("records", "standing", "words"),
    [
        ([], "not proven", "The newest set was never rehearsed. No other set has passed one"),
        ([rehearsed(1)], "proven", "The newest set passed its rehearsal on"),
        ([rehearsed(2, *BROKEN), rehearsed(1)], "proven", "passed its rehearsal"),
        ([rehearsed(2), rehearsed(1, *PARTLY)], "proven", "passed its rehearsal"),
        ([rehearsed(1, *BROKEN)], "failed", "its rehearsal on"),
        ([rehearsed(2), rehearsed(1, *BROKEN)], "failed", "rows: public.posts: 41, not 42"),
        ([rehearsed(2, *BROKEN), rehearsed(1, *PARTLY)], "failed", "public.posts"),
        ([rehearsed(1, *PARTLY)], "not proven", "passed; some checks were skipped: boot"),
        ([rehearsed(1, *WHOLE, depth=Depth.VERIFY)], "not proven", "never rehearsed"),
        (
            [
                rehearsed(2),
                rehearsed(1, failed("checksums", "a.zst has a wrong checksum"), depth=Depth.VERIFY),
            ],
            "failed",
            "its verification on",
        ),
        ([rehearsed(1, passed("rows"))], "not proven", "some checks were skipped"),
        ([rehearsed(1, *WHOLE)], "not proven", "some checks were skipped"),
        ([rehearsed(192)], "proven", "passed its rehearsal"),
        ([rehearsed(192.1)], "not proven", "Out of date. The newest set passed its rehearsal on"),
    ],
)
def test_the_verdict(records: list[CheckRecord], standing: str, words: str) -> None:
    made = of(TONIGHT, records=tuple(records))
    assert made.judgement.standing.value == standing
    assert words in made.judgement.reason
    assert (made.recovery_seconds is not None) is (standing == "proven")


def test_a_proof_of_an_old_set_is_out_of_date() -> None:
    entry = made_set(ago(hours=27))
    made = of(entry, records=(record_of(entry, ago(hours=1)),))
    assert made.judgement.standing is Rating.NOT_PROVEN
    assert made.judgement.reason.startswith("Out of date. ")
    assert made.judgement.reason.endswith("but it is 27 hours old")


def test_the_last_proven_set_is_named_whatever_the_verdict() -> None:
    old = rehearsed(20, entry=YESTERDAY)
    for records in ((old,), (old, rehearsed(1, *BROKEN)), (old, rehearsed(1, *PARTLY))):
        made = of(TONIGHT, YESTERDAY, records=records)
        assert made.judgement.standing is not Rating.PROVEN
        assert made.proof is not None and made.proof.started == old.started
        assert YESTERDAY.name in made.judgement.reason
        assert made.fields()["last_proven"] == {"set": YESTERDAY.name, "at": old.started}
    assert of(TONIGHT).fields()["last_proven"] is None


def test_verifications_are_apart_from_rehearsals() -> None:
    read = rehearsed(1, *WHOLE, depth=Depth.VERIFY)
    made = of(TONIGHT, records=(rehearsed(2), read))
    depths = [record.depth for record in (*made.rehearsals, *made.verifications)]
    assert depths == [Depth.USUAL, Depth.VERIFY]
    (line,) = made.lines
    assert (line.words[:9], line.verified[:9]) == ("passed on", "intact on")
    page = health_html.render_report(made).decode()
    rehearsals, verifications = page.partition('id="rehearsals">')[2].split('id="verifications">')
    assert rehearsals.count("<tr>") == 2, "the heading and one"
    assert "verify" not in rehearsals
    assert verifications.partition("</table>")[0].count("<tr>") == 2
    bad = rehearsed(1, failed("checksums", "x"), depth=Depth.VERIFY)
    (line,) = of(TONIGHT, records=(rehearsed(2), bad)).lines
    assert (line.words[:22], line.verified[:7]) == ("verification failed on", "damaged")


def test_copies_retention_and_encryption_are_on_the_page() -> None:
    made = of(TONIGHT, records=(rehearsed(1),))
    page = " ".join(health_html.render_report(made).decode().split())
    assert "Retention: all sets of the last 7 days, 12 monthly." in page
    assert "are not encrypted." in page
    assert made.fields()["copies"] == [
        {"place": "nas", "newest": "2026-11-24T04:03:00Z", "encrypted": True},
        {"place": "b2", "newest": None, "encrypted": False},
    ]
    none = report(found([TONIGHT]), Protection())
    assert "No copies on other machines are configured" in health_html.render_report(none).decode()


def test_retention_in_words() -> None:
    rules = Rules(timedelta(days=7), timedelta(hours=30), 3, 0, 7, 0, 12)
    told = (
        "all sets of the last 7 days, all within 30.0 h of the newest, 3 last, 7 daily, 12 monthly"
    )
    assert health_report._retention(rules) == told
    assert "for ever" in health_report._retention(Rules())


def test_the_verdict_is_on_the_newest_set_that_is_a_backup() -> None:
    old = rehearsed(20, entry=YESTERDAY)
    made = of(SAFETY, TONIGHT, YESTERDAY, records=(old,))
    assert made.newest is not None and made.newest.name == TONIGHT.name
    assert made.judgement.standing is Rating.NOT_PROVEN
    assert f"The newest set that passed is {YESTERDAY.name}" in made.judgement.reason
    assert of(SAFETY).judgement.reason.startswith("There is no set in /var/opt/gitlab")


def test_only_what_is_kept_in_the_set_itself_proves_it() -> None:
    """A rehearsal of a copy is in the history under the same name."""
    assert of(TONIGHT, history=(rehearsed(1),)).judgement.standing is Rating.NOT_PROVEN
    strange = {TONIGHT.name: [rehearsed(1, entry=YESTERDAY)]}
    made = report(replace(found([TONIGHT]), records=strange), PROTECTED)
    assert (made.judgement.standing, made.records) == (Rating.NOT_PROVEN, [])


@pytest.mark.parametrize(
    ("left_out", "seconds", "words"),
    [
        (
            ["public.idx"],
            200.0,
            "recovery time to expect: 3 min, without the search indexes",
        ),
        ([], 200.0, "recovery time to expect: 3 min"),
        ([], 0.2, "recovery time to expect: 1 s"),
    ],
)
def test_the_recovery_time_says_what_is_not_in_it(
    left_out: list[str], seconds: float, words: str
) -> None:
    made = of(TONIGHT, records=(rehearsed(1, left_out=left_out, recovery_seconds=seconds),))
    assert made.judgement.reason.endswith(words)
    assert made.fields()["recovery_without"] == left_out
    assert made.fields()["recovery_seconds"] == seconds


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (made_set(ago(hours=26)), []),
        (made_set(ago(hours=27)), ["The newest set is 27 hours old"]),
        (made_set(ago(days=5)), ["The newest set is 5 days old"]),
    ],
)
def test_the_age_of_the_newest_set_is_told(entry: SetEntry, words: list[str]) -> None:
    concerns = of(entry, records=(record_of(entry, ago(hours=1)),)).concerns
    assert [concern.split(":")[0] for concern in concerns] == words


def test_other_sets_that_are_bad_are_told() -> None:
    torn = SetEntry("1795400000_2026_11_23_10.11.4", None, "it has no manifest.json")
    bad = rehearsed(20, *BROKEN, entry=YESTERDAY)
    made = of(TONIGHT, YESTERDAY, torn, records=(rehearsed(1), bad))
    assert made.judgement.standing is Rating.PROVEN
    assert list(made.concerns) == [
        f"{torn.name} is not complete: it has no manifest.json",
        f"1 other set failed: {YESTERDAY.name}",
    ]
    words = [line.words.split(" on ")[0] for line in made.lines]
    assert words == ["passed", "failed", "not complete: it has no manifest.json"]


# what is not covered, and what machines get


def test_what_was_not_run_is_told_once_with_its_newest_set() -> None:
    twice = (rehearsed(3, *PARTLY), rehearsed(1, *PARTLY), rehearsed(2, *WHOLE, depth=Depth.VERIFY))
    told = of(TONIGHT, records=twice, uncovered=["Uploads are elsewhere"]).uncovered
    assert told[0] == "Uploads are elsewhere"
    assert [line.split(":")[0] for line in told[1:5]] == [
        "GitLab itself",
        "The indexes of Elasticsearch and Bleve",
        "Functions that need a network",
        "The content of copies on other machines",
    ]
    where = f"boot was skipped in 2 rehearsals, the newest of {TONIGHT.name}"
    assert list(told[5:]) == [f"{where}: this host has no mattermost"]


def test_the_history_has_sets_that_are_gone_and_each_run_once() -> None:
    gone = rehearsed(50, entry=YESTERDAY)
    made = of(TONIGHT, records=(gone, rehearsed(1)))
    assert [record.set for record in made.records] == [TONIGHT.name, YESTERDAY.name]


def test_the_fields_are_json_and_tell_what_the_page_tells() -> None:
    torn = SetEntry("1795400000_2026_11_23_10.11.4", None, "it has no manifest.json")
    made = of(TONIGHT, torn, records=(rehearsed(1),))
    outcome = health.report_result(made, Path("/somewhere/report.html"))
    fields = json.loads(json.dumps(outcome.fields))
    assert (fields["path"], fields["verdict"]) == ("/somewhere/report.html", "proven")
    assert (fields["set"], fields["recovery_seconds"]) == (TONIGHT.name, 42.25)
    assert [set_["name"] for set_ in fields["sets"]] == [TONIGHT.name, torn.name]
    assert (fields["sets"][0]["bytes"], fields["sets"][0]["seconds"]) == (12, 12.345)
    (run,) = fields["rehearsals"]
    assert (run["result"], run["checks"][2]["detail"]) == ("passed", "it answered")
    assert fields["versions"]["GitLab"] == "18.11.9"
    assert len(fields["not_covered"]) == 4


@pytest.mark.parametrize("records", [(), (rehearsed(1, *BROKEN),)])
def test_that_nothing_is_proven_is_no_failure_of_the_report(
    records: tuple[CheckRecord, ...],
) -> None:
    outcome = health.report_result(of(TONIGHT, records=records), Path("/r.html"))
    assert (outcome.exit_code, outcome.answer, outcome.warnings) == (ExitCode.DONE, True, [])
    assert outcome.lines[0] == "/r.html"
    assert outcome.lines[1].startswith(("  Not proven: ", "  Failed: "))


# what may be handed on

COPY = (
    'pg_restore failed with exit code 1: pg_restore: error: COPY failed for table "posts": '
    'ERROR:  invalid input syntax for type bigint: "our secret plan\nits second line"\n'
    'CONTEXT:  COPY posts, line 3, column createat: "our secret plan"\n'
    "pg_restore: warning: errors ignored on restore: 1"
)
DUPLICATE = (
    'ERROR:  could not create unique index "users_username_key"\n'
    "DETAIL:  Key (username)=(our secret plan) is duplicated."
)


@pytest.mark.parametrize(
    ("detail", "wanted"),
    [
        (
            COPY,
            'pg_restore failed with exit code 1: pg_restore: error: COPY failed for table "posts": '
            'ERROR:  invalid input syntax for type bigint: "…"\n'
            "pg_restore: warning: errors ignored on restore: 1",
        ),
        (DUPLICATE, 'ERROR:  could not create unique index "users_username_key"'),
        ('role "our secret plan" does not exist', 'role "…"'),
        ('table "posts" has "our secret plan', 'table "posts" has "…"'),
        ("public.posts: 41, not 42; 'a.png' is missing", None),
        ("", None),
    ],
)
def test_no_content_of_a_row_is_handed_on(detail: str, wanted: str | None) -> None:
    checks = (*WHOLE, failed("database", detail))
    made = of(TONIGHT, records=(rehearsed(1, *checks),))
    assert redaction.without_rows(detail) == (detail if wanted is None else wanted)
    assert redaction.without_rows(detail) in made.judgement.reason
    told = health_html.render_report(made).decode() + json.dumps(made.fields())
    assert "plan" not in told and "second line" not in told


# the page


class Reader(html.parser.HTMLParser):
    """What a browser makes of a page: its elements, their attributes, and the text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.text = ""
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in ("href", "src")}

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title></table><h1>Proven</h1>",
    "{{ 7 * 7 }}{% raw %}<!--",
    "&lt;b&gt; ]]> <svg/onload=alert(1)>",
)


@pytest.mark.parametrize("words", HOSTILE)
def test_a_hostile_name_is_only_text(words: str) -> None:
    def page(said: str) -> Reader:
        entry = made_set(ago(hours=2), mattermost=said, gitlab=said, host=said, tool=said)
        checks = (*WHOLE, failed(said, said), not_run("boot", said))
        run = rehearsed(
            1, *checks, entry=entry, host=said, tool=said, postgresql=said, left_out=[said]
        )
        torn = SetEntry("1795400000_2026_11_23_10.11.4", None, said)
        made = of(entry, torn, records=(run,), uncovered=[said], host=said, folder=said)
        return Reader(health_html.render_report(made))

    tame, hostile = page("tame"), page(words)
    assert hostile.elements == tame.elements
    assert hostile.attributes == tame.attributes
    assert hostile.links == tame.links
    cut = hostile.text.count('"…"')  # a detail may have no quotation in it
    assert hostile.text.count(words) + cut == tame.text.count("tame") > 8


def test_what_cannot_be_seen_is_spelled_out() -> None:
    checks = (*WHOLE, failed("rows", "a\u202eb\x07c\u200bd Grüße 表"))
    page = health_html.render_report(of(TONIGHT, records=(rehearsed(1, *checks),))).decode()
    assert "a\\u202eb\\x07c\\u200bd Grüße 表" in page


def test_the_page_loads_nothing() -> None:
    page = health_html.render_report(report(many(12), PROTECTED))
    read = Reader(page)
    assert page.startswith(b"<!DOCTYPE html>\n")
    assert read.links and all(link == "data:," or link.startswith("#") for link in read.links)
    assert not {"script", "iframe", "object", "embed", "base", "form"} & set(read.elements)
    assert b"default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    assert b"url(" not in page and b"@import" not in page


def test_only_so_many_runs_are_on_the_page_and_the_rest_is_told() -> None:
    records = [rehearsed(number / 10) for number in range(405)]
    read = Reader(health_html.render_report(of(TONIGHT, records=tuple(records))))
    assert read.elements.count("details") == 400
    assert "5 older ones not shown" in read.text
    assert len(of(TONIGHT, records=tuple(records)).fields()["rehearsals"]) == 405


def test_the_file_is_private_and_replaced_in_one_step(tmp_path: Path) -> None:
    path, made = tmp_path / "report.html", of(TONIGHT)
    path.write_text("old")
    path.chmod(0o644)
    before = path.stat().st_ino
    assert health_html.write_report(path, made) == path
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_ino != before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("where", ["", "no/such/report.html", "/", "/proc/report.html"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, where: str) -> None:
    with pytest.raises(Failure) as caught:
        health_html.write_report(tmp_path / where, of(TONIGHT))
    assert str((tmp_path / where).resolve()) in caught.value.message
    assert list(tmp_path.iterdir()) == []


# the charts


def drawn(amounts: list[float], apart: timedelta = timedelta(days=1)) -> Chart:
    points = [(NOW + apart * number, amount) for number, amount in enumerate(amounts)]
    return health_html.sizes("Sizes", [Series("Sets", points)], humanize.size)


@pytest.mark.parametrize(
    ("highest", "unit"),
    [
        (0, "B"),
        (1, "B"),
        (2047, "B"),
        (2048, "KiB"),
        (3 << 20, "MiB"),
        (1.9 * (1 << 30), "MiB"),
        (7 << 40, "TiB"),
    ],
)
def test_an_axis_reaches_over_the_highest_with_few_round_ticks(highest: float, unit: str) -> None:
    chart = drawn([highest / 2, highest])
    factor = {"B": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}[chart.unit]
    values = [float(label) * (1 << factor) for _, label in chart.ticks]
    assert chart.unit == unit
    assert 2 <= len(values) <= 5 and values[0] == 0
    assert values[-1] >= highest and values[-1] <= max(highest * 2.5, 1)
    heights = [height for height, _ in chart.ticks]
    assert (heights[0], heights[-1]) == (chart.bottom, chart.top)


@pytest.mark.parametrize("count", [0, 1, 2, 60, 400])
def test_every_point_is_where_its_amount_and_time_are(count: int) -> None:
    amounts = [float((number * 7919) % 1000) for number in range(count)]
    chart = drawn(amounts)
    (curve,) = chart.curves
    places = [tuple(map(float, point.split(","))) for point in curve.line.split()]
    assert len(places) == count
    top = float(chart.ticks[-1][1])
    for number, (x, y) in enumerate(places):
        share = number / (count - 1) if count > 1 else 0.5
        assert math.isclose(
            x, chart.left + share * (chart.right - chart.left), rel_tol=0, abs_tol=0.06
        )
        height = (chart.bottom - y) / (chart.bottom - chart.top)
        assert math.isclose(height * top, amounts[number], rel_tol=0, abs_tol=top / 1000)
    assert len(curve.marks) == (count if count <= 80 else 1)
    days = [label for _, label, _ in chart.dates]
    assert len(days) == len(set(days)) == min(count, 3 if count > 2 else count)
    assert days[:1] == [f"{NOW.astimezone():%Y-%m-%d}"][:count]


def test_all_on_one_day_have_one_date() -> None:
    assert len(drawn([1, 2, 3], timedelta(minutes=1)).dates) == 1


def test_a_chart_tells_its_numbers_in_words() -> None:
    assert drawn([]).description == "Sets: none yet."
    days = " to ".join(f"{NOW.astimezone() + timedelta(days=days):%Y-%m-%d}" for days in (0, 2))
    wanted = f"Sets: 3, {days}; least 1.0 KiB, most 2.0 KiB, newest 1.5 KiB."
    assert drawn([2048, 1024, 1536]).description == wanted
