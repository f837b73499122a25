"""Sets that unpack to more than they say: cut off where their manifest's sizes end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.installed_package import Product
from tests.lab.omnibus import Omnibus
from tests.lab.sandbox import Lab
from tests.system.helpers.attacks import Attacks, target
from tests.system.helpers.faults_forge import copied, resum, with_sql

# One grows in the tables, one in the files that a function's result goes to before.
HUGE = """
    CREATE FUNCTION public.huge() RETURNS SETOF text LANGUAGE plpgsql AS $$
    BEGIN
        IF current_database() <> 'scratch' THEN
            RETURN QUERY SELECT repeat(md5(n::text), 30) FROM generate_series(1, 100000000) n;
        END IF;
    END $$;
    ALTER FUNCTION public.huge OWNER TO gitlab_mattermost;
    CREATE MATERIALIZED VIEW bomb AS SELECT * FROM public.huge();
"""
GROWING = """
    CREATE MATERIALIZED VIEW bomb AS
    SELECT repeat(md5(generate_series(1,
        CASE current_database() WHEN 'scratch' THEN 1 ELSE 100000000 END)::text), 30);
"""
# A terabyte of zeros, as zstd frames of 1 GiB that follow what is there; some MB on the disk.
BOMB = """
    head -c 1G /dev/zero | zstd -q -19 --long=27 >/tmp/frame
    for n in $(seq 1000); do cat /tmp/frame; done >>"$1"
"""


@pytest.fixture(scope="module")
def host(base: Path, deb: Path) -> Iterator[tuple[Lab, Omnibus, Product, str]]:
    with target(base, deb) as (lab, gitlab, product):
        yield lab, gitlab, product, product.backup()


@pytest.fixture(scope="module")
def attacks() -> Attacks:
    return Attacks("bombs")


def disk(lab: Lab) -> int:
    used = lab.run("df", "--output=used", "--block-size=1M", "/var").stdout.split()
    return int(used[1])


BOMBS = {
    "in its tables": (
        GROWING,
        "becomes larger than its set says",
        "becomes larger than its set says",
    ),
    "beside them": (
        HUGE,
        "exceeds temp_file_limit",
        "Writing was stopped before the disk is full",
    ),
}


@pytest.mark.parametrize("where", BOMBS)
def test_a_dump_that_grows(
    host: tuple[Lab, Omnibus, Product, str], attacks: Attacks, where: str
) -> None:
    lab, gitlab, product, good = host
    statements, rehearsed, restored = BOMBS[where]
    path = with_sql(gitlab, good, statements)
    before, state = disk(lab), gitlab.state()
    with attacks.row(f"a dump that grows without end {where}: rehearsed"):
        answer = product("rehearse", path)
        assert answer.code == 1 and "checks" in answer.document, answer
        (check,) = [check for check in answer.document["checks"] if check["result"] == "failed"]
        assert check["name"] == "database"
        assert rehearsed in check["detail"]
    with attacks.row(f"a dump that grows without end {where}: restored"):
        told = product.restore("--no-safety-backup", path)
        assert told.code == 1
        assert restored in told.error["message"]
        assert state.differences(gitlab.state(), ("systems", "sessions", "status", "audits")) == []
    assert product.leftovers() == []
    assert disk(lab) < before + 1500, "but for what PostgreSQL keeps of its log"


@pytest.mark.parametrize("part", ["files", "etc-gitlab"])
def test_an_archive_that_goes_on(
    host: tuple[Lab, Omnibus, Product, str], attacks: Attacks, part: str
) -> None:
    lab, _, product, good = host
    path = copied(lab, good)
    lab.run("sh", "-ec", BOMB, "sh", f"{path}/{part}.tar.zst")
    resum(lab, path)
    with attacks.row(f"{part}: a terabyte of zeros after its end"):
        for verb in (("verify",), ("rehearse",), ("restore", "--yes", "--no-safety-backup")):
            answer = product(*verb, path)
            assert answer.code == 1, (verb, answer)
            assert "is not a complete archive" in str(answer.document), (verb, answer)
    assert product.leftovers() == []
