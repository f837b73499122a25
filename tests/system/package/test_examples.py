"""The examples in /usr/share/doc: each is put where it belongs, and used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from gitlab_mm_backup.config.settings import Settings, load
from gitlab_mm_backup.mattermost import listener
from gitlab_mm_backup.mattermost.effective_config import EffectiveConfig
from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab, wait_until

EXAMPLES = "/usr/share/doc/gitlab-mm-backup/examples"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
HOOK = "/etc/gitlab-mm-backup/hooks/post-backup.d/60-copy-to-disk"
DISK = "/mnt/offsite"
STORE = "/srv/backups/mattermost"


@dataclass(frozen=True)
class Server:
    """A server whose admin has taken over the example settings."""

    lab: Lab
    product: Product


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Server]:
    with Lab(base=base) as lab:
        install(lab, Spec())
        product = install_product(lab, deb)
        lab.run("cp", f"{EXAMPLES}/config.yml", CONFIG)
        yield Server(lab, product)


def test_every_example_is_used_here(server: Server) -> None:
    names = {path.name for path in server.lab.path(EXAMPLES).iterdir()}
    assert names == {
        "all-options.yml",
        "ansible",  # in test_ansible
        "config.yml",
        "copy-to-disk",
        "cron.d",
        "gitlab-container.service",  # in test_gitlab of the containers
        "nginx-mattermost.conf",
    }


def test_the_site_for_nginx_leads_to_a_standalone_mattermost(server: Server) -> None:
    site = server.lab.read(f"{EXAMPLES}/nginx-mattermost.conf")
    assert f"server {listener.of(EffectiveConfig({})).place};" in site


def test_the_file_with_all_options_changes_none(server: Server) -> None:
    file = f"{EXAMPLES}/all-options.yml"
    answer = server.product("config", "check", "--config", file)
    assert (answer.code, answer.document["given"]) == (0, [])
    assert "\n#keep_time:" in server.lab.read(file)


def test_the_settings(server: Server) -> None:
    read = load(server.lab.path(CONFIG), Path("/no/gitlab.yml"))
    assert read == Settings(Path(STORE), timedelta(weeks=4), files_level=6, threads=2)
    assert Path(server.product.backup()).parent == Path(STORE)


def test_the_hook_copies_a_complete_set_to_a_mounted_disk(server: Server) -> None:
    server.lab.run("cp", f"{EXAMPLES}/copy-to-disk", HOOK)
    server.lab.run("chmod", "755", HOOK)
    server.lab.run("mkdir", "-p", DISK)
    unmounted = server.product("backup")
    assert unmounted.code == 4
    assert f"{DISK} is not mounted" in " ".join(unmounted.document["warnings"])
    assert server.lab.run("ls", "-A", DISK).stdout == ""

    server.lab.run("mount", "-t", "tmpfs", "tmpfs", DISK)
    name = Path(server.product.backup()).name
    assert server.lab.run("ls", "-A", DISK).stdout == f"{name}\n"
    assert server.product("verify", f"{DISK}/{name}").code == 0
    server.lab.path(HOOK).unlink()


def test_cron_runs_both_jobs(server: Server) -> None:
    """On Sunday at 7:13 the newest set is read, and found damaged; at 10:43 a set is made."""
    lab = server.lab
    lab.run("sed", "-i", "s/^43 /# 43 /", "/etc/cron.d/gitlab-mm-backup")
    lab.run("cp", f"{EXAMPLES}/cron.d", "/etc/cron.d/gitlab-mm-backup-local")
    lab.write("/usr/sbin/sendmail", "#!/bin/sh\ncat >>/tmp/mail\n", mode=0o755)
    newest = max(sets(lab))
    damage(newest / "database.dump.zst")
    mail = lab.path("/tmp/mail")
    run_cron_until(lab, "07:12:58", lambda: mail.exists() and newest.name in mail.read_text())
    before = len(sets(lab))
    run_cron_until(lab, "10:42:58", lambda: len(sets(lab)) > before)


def sets(lab: Lab) -> list[Path]:
    return list(lab.path(STORE).glob("1*"))


def damage(file: Path) -> None:
    """Change a byte, which the list does not notice and the check must."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def run_cron_until(lab: Lab, clock: str, condition: Callable[[], bool]) -> None:
    """Run Debian's cron from a moment of a Sunday on."""
    cron = lab.popen("faketime", "-f", f"@2026-11-29 {clock}", "cron", "-f", "-L", "15")
    try:
        wait_until(condition, 60, f"the job after {clock}")
    finally:
        lab.run("kill", lab.read("/run/crond.pid").strip())  # popen()'s own child is faketime
        cron.wait()
