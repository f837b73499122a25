"""Only documented variables of the caller's environment are used, each for its purpose."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator

import pytest

from gitlab_mm_backup.config import settings
from gitlab_mm_backup.offsite import rclone
from gitlab_mm_backup.system import environment
from gitlab_mm_backup.system.process import PATH
from gitlab_mm_backup.system.redaction import Secret
from tests.unit.helpers.builders import ROOT

FOREIGN = (
    *("PGSERVICE", "PGHOSTADDR", "PGOPTIONS", "PGREQUIREPEER", "PGSYSCONFDIR", "PGGSSENCMODE"),
    *("PGSOMETHINGNEW", "PYTHONPATH", "TMPDIR", "LD_PRELOAD", "TAR_OPTIONS", "ZSTD_CLEVEL"),
    *("XDG_CONFIG_HOME", "HOSTALIASES", "OPENSSL_CONF", "BASH_ENV", "http_proxy", "AWS_PROFILE"),
    *("RESTIC_PASSWORD", "RCLONE_CONFIG", "RCLONE_DRY_RUN", "SSL_CERT_FILE", "GITLAB_MMX"),
)
OURS = ("TERM", "COLUMNS", "NO_COLOR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "GITLAB_MM_PHASE")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    environment.cleanse()
    os.environ.update(before)


def cleanse(**variables: str) -> None:
    os.environ.clear()
    os.environ.update(variables)
    environment.cleanse()


def test_what_is_not_ours_is_gone() -> None:
    cleanse(HOME="/elsewhere", USER="x", PATH="/evil", **dict.fromkeys((*FOREIGN, *OURS), "value"))
    root = pwd.getpwuid(os.geteuid())
    assert dict(os.environ) == {
        **dict.fromkeys(OURS, "value"),
        "HOME": root.pw_dir,
        "USER": root.pw_name,
        "LOGNAME": root.pw_name,
        "PATH": PATH,
    }


def test_without_any_variable_there_is_a_home_and_a_path() -> None:
    cleanse()
    assert sorted(os.environ) == ["HOME", "LOGNAME", "PATH", "USER"]


def test_rclone_gets_the_proxy_and_the_way_to_its_own_file() -> None:
    cleanse(
        https_proxy="http://u:word@proxy:3128",
        RCLONE_CONFIG="/etc/rclone.conf",
        RCLONE_CONFIG_PASS="pass",
        RCLONE_DRY_RUN="true",
        RCLONE_CONFIG_NAS_TYPE="memory",
    )
    given = rclone.command(settings.remote_named("nas:x"), "lsjson").environment
    assert given == {
        "https_proxy": Secret("http://u:word@proxy:3128"),
        "RCLONE_CONFIG": "/etc/rclone.conf",
        "RCLONE_CONFIG_PASS": Secret("pass"),
        "HOME": "/root",
    }


def test_a_place_that_needs_no_file_of_rclone_s_gets_none() -> None:
    cleanse(RCLONE_CONFIG="/etc/rclone.conf", RCLONE_CONFIG_PASS="pass")
    given = rclone.command(settings.remote_named("/mnt/disk"), "lsjson").environment
    assert given == {"RCLONE_CONFIG": "/dev/null", "HOME": "/root"}


def test_restic_is_opened_by_its_own_variables_and_those_of_storages() -> None:
    cleanse(RESTIC_REPOSITORY="r", AWS_ACCESS_KEY_ID="k", PGHOST="h", no_proxy="localhost")
    found = {name: value.reveal() for name, value in environment.restic().items()}
    assert found == {"RESTIC_REPOSITORY": "r", "AWS_ACCESS_KEY_ID": "k", "no_proxy": "localhost"}


def test_proxies_are_told_by_scheme() -> None:
    cleanse(HTTPS_PROXY="http://p:1", no_proxy=".example.org", SSL_CERT_DIR="/etc/ssl")
    assert environment.proxies() == {"https": "http://p:1", "no": ".example.org"}


def test_who_called_sudo() -> None:
    cleanse(SUDO_UID="1000", SUDO_GID="100")
    assert environment.sudo() == (1000, 100)
    for user in ("", "-1", "eve", "99999999999", "1\n"):
        cleanse(SUDO_UID=user, SUDO_GID="100")
        assert environment.sudo() == (0, 0)


def test_every_variable_that_counts_is_documented() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    table = text.partition("## Environment variables")[2]
    patterns = (environment._OWN, environment._NETWORK, environment._RCLONE)
    documented = re.findall(r"`([A-Za-z_]+)`", table)
    assert [name for name in OURS[:-1] if name not in documented] == []
    for pattern in patterns:
        assert [name for name in documented if pattern.fullmatch(name)], pattern
    listed = (
        "SUDO_UID",
        "SUDO_GID",
        "http_proxy",
        "no_proxy",
        "SSL_CERT_FILE",
        "RCLONE_CONFIG_PASS",
    )
    assert set(listed) <= set(documented)
