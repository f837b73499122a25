"""What a rehearsal holds against each other: what Mattermost tells and the set, the dump and what was loaded."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup.checks import Result
from gitlab_mm_backup.mattermost.effective_config import EffectiveConfig
from gitlab_mm_backup.mattermost.site import Account, Folders, GitLab, Kind, Site
from gitlab_mm_backup.postgresql.endpoint import Endpoint, Login
from gitlab_mm_backup.rehearsal import boot, checks
from gitlab_mm_backup.rehearsal.boot import Booted
from gitlab_mm_backup.rehearsal.checks import SetSettings
from gitlab_mm_backup.system.redaction import Secret

WELL = {"status": "OK", "database_status": "OK", "filestore_status": "OK"}
TOLD = {"Version": "10.11.0", "SiteURL": "https://chat.example.org/"}
KEPT = SetSettings(
    {}, EffectiveConfig({"ServiceSettings": {"SiteURL": "https://chat.example.org"}})
)
FIXTURES = Path(__file__).resolve().parents[2] / "lab" / "fixtures"


def answers(status: dict[str, Any], config: dict[str, Any]) -> tuple[Result, str]:
    made = checks.answers(Booted(1.0, status, config), "10.11.4", KEPT)
    return made.result, made.detail


def test_what_mattermost_tells_when_all_is_well() -> None:
    states = "status OK, database_status OK, filestore_status OK"
    wanted = f"{states}; version 10.11.0, at https://chat.example.org"
    assert answers(WELL, TOLD) == (Result.PASSED, wanted)


def test_mattermost_5_tells_its_address_to_nobody_without_a_login() -> None:
    assert answers({"status": "OK"}, {"Version": "10.11.0"}) == (
        Result.PASSED,
        "status OK; version 10.11.0",
    )


@pytest.mark.parametrize(
    ("status", "config", "words"),
    [
        ({**WELL, "database_status": "UNHEALTHY"}, TOLD, "database_status is UNHEALTHY"),
        ({**WELL, "filestore_status": "UNHEALTHY"}, TOLD, "filestore_status is UNHEALTHY"),
        ({}, TOLD, "status is unknown"),
        (WELL, {**TOLD, "Version": "10.12.0"}, "it says it is version 10.12.0"),
        (WELL, {**TOLD, "SiteURL": "https://other"}, "its address is 'https://other', not"),
        (WELL, {**TOLD, "SiteURL": ""}, "its address is '', not 'https://chat.example.org'"),
    ],
)
def test_what_is_not_well(status: dict[str, Any], config: dict[str, Any], words: str) -> None:
    result, detail = answers(status, config)
    assert result is Result.FAILED
    assert words in detail


def test_an_extension_that_was_not_loaded() -> None:
    missing = checks._extensions({"plpgsql"}, ["pg_trgm", "plpgsql"])
    assert missing.result is Result.FAILED
    assert missing.detail.startswith("missing: pg_trgm.")
    assert checks._extensions({"plpgsql", "pg_trgm"}, ["pg_trgm"]).result is Result.PASSED


def overrides() -> dict[str, str]:
    owner = Login("the owner", password=Secret("a b:@/?#'\\"))
    endpoint = Endpoint("/run/x", 5432, "a name", owner, Login("admin"))
    made = boot.overrides(Path("/home/data"), endpoint)
    return {
        name: value.reveal() if isinstance(value, Secret) else value for name, value in made.items()
    }


def test_every_setting_that_is_switched_off_exists() -> None:
    """A name that is spelled wrong would be passed over, and what it names would stay on."""
    known = json.loads((FIXTURES / "config-5.37.json").read_text())
    names = {f"MM_{section}_{key}".upper() for section, keys in known.items() for key in keys}
    ours = {name for name in overrides() if name.startswith("MM_")}
    assert ours - names == {"MM_INSTALL_TYPE"}


def test_the_database_is_one_word_that_means_the_scratch_server() -> None:
    """Mattermost splits the variable of a list, as the replicas are, at each blank."""
    from psycopg.conninfo import conninfo_to_dict

    made = overrides()
    sources = {
        made[f"MM_SQLSETTINGS_DATASOURCE{suffix}"] for suffix in ("", "REPLICAS", "SEARCHREPLICAS")
    }
    (source,) = sources
    assert " " not in source
    assert conninfo_to_dict(source) == {
        "host": "/run/gitlab-mm/socket",
        "port": "5432",
        "dbname": "a name",
        "user": "the owner",
        "password": "a b:@/?#'\\",
        "sslmode": "disable",
    }


class Refusing(http.server.BaseHTTPRequestHandler):
    """A GitLab that refuses every id and secret."""

    def do_POST(self) -> None:
        body = b'{"error":"invalid_client"}'
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is said of it."""


@pytest.fixture
def gitlab_elsewhere() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/oauth/token"
        server.shutdown()


def judged(live: Mapping[str, str], kept: Mapping[str, str]) -> Result:
    login, nowhere = Login("nobody"), {"home": Path("/nowhere"), "data": Path("/nowhere/data")}
    site = Site(
        kind=Kind.OMNIBUS,
        version="10.11.4",
        account=Account("mattermost", "mattermost"),
        folders=Folders(nowhere, nowhere),
        config_file=Path("/nowhere/config.json"),
        environment_folder=None,
        environment={},
        settings=EffectiveConfig({"GitLabSettings": dict(live)}),
        database=Endpoint("/nowhere", 5432, "none", login, login),
        client_programs=Path("/usr/bin"),
        gitlab=GitLab("18.11.9", "", None),
    )
    pair = {"Enable": True, "Id": "an id", "Secret": "a secret"}
    return checks.credentials(
        site, SetSettings({}, EffectiveConfig({"GitLabSettings": {**pair, **kept}}))
    ).result


def test_a_host_without_endpoints_judges_a_set_by_those_of_the_set(gitlab_elsewhere: str) -> None:
    endpoint = {"TokenEndpoint": gitlab_elsewhere}
    assert judged({}, endpoint) is Result.FAILED
    assert judged({"TokenEndpoint": ""}, endpoint) is Result.FAILED
    assert judged(endpoint, {}) is Result.FAILED
    assert judged({}, {}) is Result.NOT_RUN
    closed = {"TokenEndpoint": "http://127.0.0.1:1/oauth/token"}
    assert judged(closed, endpoint) is Result.NOT_RUN, "what the host has counts"
