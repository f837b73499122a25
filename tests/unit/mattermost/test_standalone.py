"""What is read of a standalone Mattermost: its unit, its variables, its DataSource."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import standalone
from gitlab_mm_backup.mattermost.effective_config import EffectiveConfig
from gitlab_mm_backup.mattermost.site import Account
from gitlab_mm_backup.postgresql import data_source
from gitlab_mm_backup.postgresql.endpoint import Endpoint
from gitlab_mm_backup.system.redaction import Secret

CONFIG = Path("/opt/mattermost/config/config.json")
ACCOUNT = Account("mattermost", "mattermost")


def unit(
    tmp_path: Path, *arguments: str, environment: dict[str, str] | None = None
) -> standalone._Unit:
    (tmp_path / "config").mkdir(exist_ok=True)
    (tmp_path / "config/config.json").write_text("{}")
    words = {name: Secret(value) for name, value in (environment or {}).items()}
    return standalone._Unit(tmp_path / "bin/mattermost", list(arguments), ACCOUNT, tmp_path, words)


def endpoint(text: str, driver: str = "postgres") -> object:
    settings = EffectiveConfig({"SqlSettings": {"DriverName": driver, "DataSource": text}})
    return standalone._endpoint(settings, CONFIG, ACCOUNT)


def test_variables_of_the_unit_and_of_its_files(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    first.write_text(
        "# a comment\n; another\n\nMM_A=from file\nMM_B='quoted  text'\nMM_C=un'closed\n"
    )
    second.write_text("MM_A = last\nno assignment\n")
    found = standalone._environment(
        {
            "Environment": 'MM_A=unit "MM_D=with a space"',
            "EnvironmentFiles": f"{first} (ignore_errors=no)\n/none (ignore_errors=yes)\n"
            f"{second} (ignore_errors=no)",
        }
    )
    assert {name: value.reveal() for name, value in found.items()} == {
        "MM_A": "last",
        "MM_B": "quoted  text",
        "MM_C": "un'closed",
        "MM_D": "with a space",
        "no assignment": "",
    }


def test_the_configuration_file(tmp_path: Path) -> None:
    usual = tmp_path / "config/config.json"
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert standalone._config_file(unit(tmp_path)) == usual
    assert standalone._config_file(unit(tmp_path, "server", "--config", str(other))) == other
    assert standalone._config_file(unit(tmp_path, "--config=other.json")) == other
    assert standalone._config_file(unit(tmp_path, environment={"MM_CONFIG": str(other)})) == other


@pytest.mark.parametrize(
    "url", ["postgres://u:pw@h/db", "postgresql://u:pw@h/db", "mysql://u:pw@h"]
)
def test_a_configuration_in_a_database_is_refused(tmp_path: Path, url: str) -> None:
    for made in (unit(tmp_path, "-c", url), unit(tmp_path, environment={"MM_CONFIG": url})):
        with pytest.raises(Failure, match="in its database") as caught:
            standalone._config_file(made)
        assert "pw" not in str(caught.value) + caught.value.hint


def test_the_database_of_a_data_source() -> None:
    found = endpoint(
        "postgres://mm:p%40w@db.example.test:5433/chat?sslmode=disable&connect_timeout=10"
    )
    assert isinstance(found, Endpoint)
    assert (found.host, found.port, found.name) == ("db.example.test", 5433, "chat")
    assert found.owner == found.admin
    assert found.owner.password is not None
    assert found.owner.password.reveal() == "p@w"
    assert found.owner.account is None
    assert dict(found.options) == {"sslmode": "disable"}


def test_what_a_data_source_leaves_out() -> None:
    found = endpoint("user=chat")
    assert isinstance(found, Endpoint)
    assert (found.host, found.port, found.name) == ("localhost", 5432, "chat")
    peer = endpoint("host=/var/run/postgresql dbname=mattermost")
    assert isinstance(peer, Endpoint)
    assert (peer.owner.role, peer.owner.account) == ("mattermost", "mattermost")


@pytest.mark.parametrize(
    "text", ["user=a host", "http://secret@host/db", "host=a port=1,2", "port=70000"]
)
def test_a_data_source_that_is_none_is_named_and_not_quoted(text: str) -> None:
    with pytest.raises(Failure, match="cannot be parsed") as caught:
        endpoint(text)
    assert "secret" not in str(caught.value)
    assert str(CONFIG) in caught.value.hint


def test_mysql_is_refused() -> None:
    with pytest.raises(Failure, match="MySQL"):
        endpoint("u:p@tcp(h:3306)/db", "mysql")


def test_go_s_own_option_is_passed_over() -> None:
    parts = data_source.parse("postgres://u@h/db?binary_parameters=yes&sslmode=disable", "")
    assert parts["sslmode"] == "disable"
