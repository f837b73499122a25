"""The package's own life: upgraded while a job runs, purged, and who really makes the set of the night."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.installed_package import DEB, JOURNAL, Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab, wait_until

SETS = "/var/opt/gitlab/backups/mattermost"
STATE = "/var/lib/gitlab-mm-backup"
CRON = "/etc/cron.d/gitlab-mm-backup"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
PROGRAMS = "/usr/lib/python3/dist-packages/gitlab_mm_backup"
COLLECTOR = "/var/opt/gitlab/node-exporter/textfile_collector"
METRICS = f"{COLLECTOR}/gitlab_mm_backup.prom"
RULES = "/var/opt/gitlab/prometheus/rules"
NIGHTLY, TIMER = "/usr/share/gitlab-mm-backup/nightly", "gitlab-mm-backup.timer"
TOLD = "/srv/told"
# Stands still when it is called the first time, until somebody lets it go on.
# In the middle is what moves rows; a dump is asked what is in it before that.
SLOW = """#!/bin/sh
case " $* " in
    *" --schema-only "*) exec {0}.kept "$@" ;;
    *" --dbname="*) ;;
    *) exec {0}.kept "$@" ;;
esac
if mkdir /tmp/reached 2>/dev/null; then
    while [ ! -e /tmp/go ]; do sleep 0.05; done
fi
exec {0}.kept "$@"
"""
# The next version, in which some modules, and files beside them, have other names.
RENAMED = (
    *("health/rating", "offsite/recovery_kit", "restore/preflight", "restore/version_rules"),
    *("rehearsal/integrity", "store/check_records", "store/soundness", "system/namespaces"),
    *("system/cleanup", "system/nolinks", "postgresql/search_path_filter"),
)
RENAME = rf"""
rm -rf /tmp/new; dpkg-deb -R {DEB} /tmp/new
cd /tmp/new; sed -i 's/^Version: .*/Version: 9.9/' DEBIAN/control; rm -f DEBIAN/md5sums DEBIAN/preinst
cd usr/lib/python3/dist-packages/gitlab_mm_backup
for path in {" ".join(RENAMED)}; do
    name="${{path##*/}}"
    for file in "$path".*; do mv "$file" "${{file%/*}}/new_${{file##*/}}"; done
    sed -i -E "s/\b$name\b/new_$name/g" *.py */*.py
done
dpkg-deb --root-owner-group -b /tmp/new /tmp/newer.deb >/dev/null
"""


@dataclass(frozen=True)
class Server:
    """A server with our package."""

    lab: Lab
    gitlab: Omnibus
    product: Product

    def sets(self) -> list[str]:
        return [set_["name"] for set_ in self.product("list").document["sets"]]

    def start_held(self, program: str, words: Sequence[str]) -> subprocess.Popen[str]:
        """Start a job, and return when it waits for a program in its middle."""
        self.lab.run("rm", "-rf", "/tmp/reached", "/tmp/go")
        self.lab.run("mv", program, f"{program}.kept")
        self.lab.write(program, SLOW.format(program), mode=0o755)
        running: subprocess.Popen[str] = self.lab.popen(*words)
        reached = self.lab.path("/tmp/reached")
        wait_until(lambda: reached.exists() or running.poll() is not None, 60, "the middle")
        assert running.poll() is None, running.communicate()
        return running

    def let_go(self, program: str, running: subprocess.Popen[str]) -> str:
        """Let a job go on; it must end well. Gives what it said."""
        self.lab.write("/tmp/go", "")
        out, err = running.communicate(timeout=180)
        self.lab.run("mv", f"{program}.kept", program)
        assert running.returncode == 0, out + err
        return str(out + err)


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Server]:
    with Lab(base=base, systemd=True) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        lab.run("mkdir", "-p", COLLECTOR, RULES)
        lab.write("/usr/sbin/sendmail", f"#!/bin/sh\ncat >>{TOLD}\n", mode=0o755)
        lab.write(CONFIG, "notifications:\n  - {type: mail, to: admin@example.test, on: always}\n")
        gitlab.seed()
        yield Server(lab, gitlab, product)


# upgraded

JOBS = {
    "backup": ("/opt/gitlab/embedded/bin/pg_dump", ("gitlab-mm-backup", "--quiet")),
    "restore": ("/opt/gitlab/embedded/bin/pg_restore", ("gitlab-mm", "restore", "--yes", "-q")),
    "rehearse": ("/opt/gitlab/embedded/bin/pg_restore", ("gitlab-mm", "rehearse", "-q")),
}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_outlives_the_upgrade_of_its_package(server: Server, job: str) -> None:
    """All that it comes to need is gone from the disk: its set, its notice and metrics come all the same."""
    lab = server.lab
    program, words = JOBS[job]
    if job != "backup":
        server.product.backup()
    before = server.sets()
    lab.run("rm", "-f", METRICS, TOLD)
    running = server.start_held(program, words)
    lab.run("sh", "-ec", RENAME)
    lab.run("dpkg", "--install", "/tmp/newer.deb")
    try:
        assert not lab.path(f"{PROGRAMS}/health/rating.py").exists()
        said = server.let_go(program, running)
    finally:
        lab.run("dpkg", "--install", "--force-downgrade", DEB)
    assert "Traceback" not in said
    told = lab.read(TOLD)
    assert f"gitlab-mm {job} is done" in told, told
    assert f'gitlab_mm_run_success{{command="{job}"}} 1' in lab.read(METRICS)
    if job != "rehearse":
        assert len(server.sets()) == len(before) + 1, "the set, or that of before the restore"
    assert server.product("verify").code == 0
    assert server.product.leftovers() == []


def test_an_upgrade_waits_for_a_job_that_ends_soon(server: Server) -> None:
    program, words = JOBS["backup"]
    running = server.start_held(program, words)
    upgrade = server.lab.popen("dpkg", "--install", DEB, stderr=subprocess.STDOUT)
    assert upgrade.stdout is not None
    lines: list[str] = []
    while "waiting up to 60 seconds" not in (line := upgrade.stdout.readline()):
        assert line, "".join(lines)
        lines.append(line)
    assert upgrade.poll() is None
    server.let_go(program, running)
    rest, _ = upgrade.communicate(timeout=50)
    assert upgrade.returncode == 0, rest
    assert "the job still runs" not in rest


# who makes the set of the night


def next_run(server: Server) -> tuple[str, str]:
    lines = {line["name"]: line for line in server.product("status").document["lines"]}
    line = lines["next run"]
    return line["state"], f"{line['words']} {line['fix']}".strip()


def night(server: Server) -> int:
    """Run what cron runs, at its time; how many sets that makes."""
    before = len(server.sets())
    server.lab.run("sh", "-c", f"for set in {SETS}/*/; do mv $set /srv/; done")
    server.lab.run("touch", "--date", "3 days ago", f"{STATE}/nightly")
    due = server.lab.run("date", "+%H:%M").stdout.strip()
    assert before
    server.lab.run(NIGHTLY, due, check=False)
    made = len(server.sets())
    server.lab.run("sh", "-c", f"for set in /srv/1*_*/; do mv $set {SETS}/; done")
    return made


def test_without_cron_and_timer_nobody_makes_a_set(server: Server) -> None:
    server.lab.run("systemctl", "stop", "cron", check=False)
    state, words = next_run(server)
    assert (state, "cron is not running systemctl enable --now cron" in words) == ("warning", True)
    server.lab.run("systemctl", "start", "cron")
    state, words = next_run(server)
    assert (state, words.endswith("by cron")) == ("good", True)
    server.lab.run("chmod", "g+w", CRON)
    state, words = next_run(server)
    server.lab.run("chmod", "g-w", CRON)
    assert (state, f"chmod 0644 {CRON}" in words) == ("warning", True)


def test_a_timer_that_is_enabled_but_not_started(server: Server) -> None:
    server.product.backup()
    server.lab.run("systemctl", "enable", TIMER)
    assert next_run(server)[0] == "good"
    assert night(server) == 1
    server.lab.run("systemctl", "stop", "cron")
    state, words = next_run(server)
    assert (state, f"systemctl start {TIMER}" in words) == ("warning", True)


def test_a_timer_that_runs_and_one_whose_service_is_masked(server: Server) -> None:
    lab = server.lab
    lab.run("systemctl", "start", TIMER)
    state, words = next_run(server)
    assert (state, words.endswith("by systemd's timer")) == ("good", True)
    assert night(server) == 0
    lab.run("systemctl", "mask", "gitlab-mm-backup.service")
    try:
        state, words = next_run(server)
        assert state == "warning" and "systemctl unmask gitlab-mm-backup.service" in words
        lab.run("systemctl", "start", "cron")
        assert next_run(server)[1].endswith("by cron")
        assert night(server) == 1
    finally:
        lab.run("systemctl", "unmask", "gitlab-mm-backup.service")
        lab.run("systemctl", "disable", "--now", TIMER)


def test_a_timer_that_is_masked_and_no_line_for_cron(server: Server) -> None:
    lab = server.lab
    lab.run("systemctl", "start", "cron")
    lab.run("mv", CRON, "/srv/cron")
    try:
        state, words = next_run(server)
        assert (state, words.endswith(f"systemctl enable --now {TIMER}")) == ("warning", True)
        lab.run("systemctl", "mask", TIMER)
        state, words = next_run(server)
        assert state == "warning" and f"systemctl unmask {TIMER}; systemctl enable" in words
    finally:
        lab.run("systemctl", "unmask", TIMER, check=False)
        lab.run("mv", "/srv/cron", CRON)
    assert next_run(server)[0] == "good"


def test_that_sets_are_kept_for_ever_is_said(server: Server) -> None:
    words = "sets are kept for ever: neither keep_time nor keep is set"
    lab = server.lab
    assert words in lab.run("gitlab-mm", "doctor", "--layout", check=False).stdout
    assert words in " ".join(lab.run("gitlab-mm", "status", check=False).stdout.split())
    assert words not in lab.run("gitlab-mm", "backup", "-v").stdout, "it is not the first set"
    lab.run("sh", "-c", f"rm -r {SETS}/*")
    first = lab.run("gitlab-mm", "backup", "-v")
    assert words in first.stdout and "Warning" not in first.stderr
    with_rule = lab.read(CONFIG) + "keep_time: 7d\n"
    lab.write("/srv/rule.yml", with_rule)
    lab.run("sh", "-c", f"rm -r {SETS}/*")
    assert words not in lab.run("gitlab-mm", "backup", "-v", "--config", "/srv/rule.yml").stdout


# removed, and half installed

# A version with another config.yml; as CONFFILE, as all did until they left the file to postinst.
OTHER_CONFIG = r"""
rm -rf /tmp/new; dpkg-deb -R "$1" /tmp/new
cd /tmp/new; sed -i "s/^Version: .*/Version: $2/" DEBIAN/control; rm -f DEBIAN/md5sums
echo "# of version $2" >>usr/share/gitlab-mm-backup/config.yml
if [ "$3" = conffile ]; then
    cp usr/share/gitlab-mm-backup/config.yml etc/gitlab-mm-backup/config.yml
    echo /etc/gitlab-mm-backup/config.yml >>DEBIAN/conffiles
fi
dpkg-deb --root-owner-group -Znone -b /tmp/new "/tmp/$2.deb" >/dev/null
"""


def settings_files(lab: Lab) -> str:
    """The files of the settings and what dpkg left beside them, with mode, time and content."""
    find = "find /etc/gitlab-mm-backup -type f -printf '%p %m %T@ ' -exec sha256sum {} +"
    return lab.run("sh", "-c", find).stdout


def test_what_is_removed_and_installed_again_is_as_before(server: Server) -> None:
    lab = server.lab
    sets, line, settings = server.sets(), lab.read(CRON), settings_files(lab)
    lab.run("dpkg", "--remove", "gitlab-mm-backup")
    command = " ".join(line.splitlines()[-1].split()[6:])  # after the time and the account
    quiet = lab.run("sh", "-c", command, check=False)
    assert (quiet.stdout, quiet.stderr) == ("", ""), "cron's line says nothing meanwhile"
    lab.run("dpkg", "--install", DEB)
    assert (server.sets(), lab.read(CRON), settings_files(lab)) == (sets, line, settings)
    # A newer version with another config.yml, without a terminal for questions.
    lab.run("sh", "-ec", OTHER_CONFIG, "sh", DEB, "9.9", "ours")
    lab.run("dpkg", "--install", "/tmp/9.9.deb")
    assert settings_files(lab) == settings
    lab.run("dpkg", "--force-downgrade", "--install", DEB)


@pytest.fixture(scope="module")
def bare(base: Path, deb: Path) -> Iterator[Lab]:
    """A host with the packages 0.0.9, in which config.yml is a conffile, and 1.0, not installed."""
    with Lab(base=base) as lab:
        lab.path(DEB).write_bytes(deb.read_bytes())
        for version, kind in (("0.0.9", "conffile"), ("1.0", "ours")):
            lab.run("sh", "-ec", OTHER_CONFIG, "sh", DEB, version, kind)
        yield lab


@pytest.mark.parametrize("edit", ["", "keep_time: 9d\n", None])
def test_a_file_that_was_a_conffile_is_left_alone(bare: Lab, edit: str | None) -> None:
    """As it came, changed or removed: nothing is asked, nothing lies beside it, and a purge takes it."""
    bare.run("dpkg", "--install", "/tmp/0.0.9.deb")
    assert CONFIG in bare.run("dpkg-query", "-W", "-f", "${Conffiles}", "gitlab-mm-backup").stdout
    if edit is None:
        bare.path(CONFIG).unlink()
    else:
        bare.write(CONFIG, bare.read(CONFIG) + edit, mode=0o600)
    before = settings_files(bare)
    bare.run("dpkg", "--install", "/tmp/1.0.deb")
    assert settings_files(bare) == before
    bare.run("dpkg", "--purge", "gitlab-mm-backup")
    assert not bare.path("/etc/gitlab-mm-backup").exists()


def test_a_package_that_is_only_unpacked_works(server: Server) -> None:
    """As apt leaves it that was cut short; configured later, it is as it should be."""
    lab = server.lab
    lab.run("dpkg", "--unpack", DEB)
    server.product.backup()
    lab.run("dpkg", "--configure", "-a")
    state = lab.run("dpkg-query", "-W", "-f", "${db:Status-Status}", "gitlab-mm-backup").stdout
    assert state == "installed" and lab.path(CRON).exists()


# purged


def test_purge_keeps_the_state_of_an_unfinished_restore(server: Server) -> None:
    lab = server.lab
    assert server.product("doctor", "--install-alerts").code == 0
    program, words = JOBS["restore"]
    running = server.start_held(program, words)
    lab.run("pkill", "-KILL", "-f", "gitlab-mm restore")
    running.communicate()
    lab.run(
        "sh",
        "-c",
        f"touch /tmp/go; pkill -KILL pg_restore; mv {program}.kept {program}",
        check=False,
    )
    assert lab.path(JOURNAL).exists()
    elsewhere = "/srv/collector/gitlab_mm_backup.prom"
    lab.write(elsewhere, "")
    lab.run("sh", "-c", f"echo {elsewhere} >>{STATE}/files-elsewhere")
    for path in (METRICS, f"{RULES}/gitlab-mm-backup.rules", elsewhere):
        assert lab.path(path).exists(), path
    sets = server.sets()
    purged = lab.run("dpkg", "--purge", "gitlab-mm-backup").stdout
    assert "a restore is not finished" in purged and "gitlab-mm restore --rollback" in purged
    for path in (METRICS, f"{RULES}/gitlab-mm-backup.rules", elsewhere):
        assert not lab.path(path).exists(), path
    lab.run("dpkg", "--install", DEB)
    rolled = server.product("restore", "--rollback")
    assert rolled.code in (0, 4), rolled
    assert not lab.path(JOURNAL).exists()
    assert server.sets() == sets
    lab.run("dpkg", "--purge", "gitlab-mm-backup")
    assert not lab.path(STATE).exists()
    assert lab.path(f"{SETS}/{sets[0]}/manifest.json").exists()
