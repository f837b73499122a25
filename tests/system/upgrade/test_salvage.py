"""What GitLab 19 leaves of Mattermost: sets of it, with and without its environment folder, and from bare trees."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab import standalone
from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Seed, Spec, State, install
from tests.lab.sandbox import PYTHON, Lab, wait_until
from tests.system.helpers.moves import DERIVED, data_files
from tests.system.helpers.spies import OPERATOR, SPY, seen

SETS = "/var/opt/gitlab/backups/mattermost"
ENVIRONMENT = "/opt/gitlab/etc/mattermost"
BACKUPS = "/etc/gitlab/config_backup"
ASIDE = "/root/aside"
DISK, VOLUMES = "/mnt/old", "/srv/gitlab"
SCRATCH = "/var/lib/gitlab-mm-backup"
DATA = "var/opt/gitlab/postgresql/data"
RECOVERED = (
    "MM_GITLABSETTINGS_ID",
    "MM_GITLABSETTINGS_SECRET",
    "MM_GITLABSETTINGS_ENABLE",
    "MM_GITLABSETTINGS_TOKENENDPOINT",
    "MM_SERVICESETTINGS_SITEURL",
    "MM_SQLSETTINGS_ATRESTENCRYPTKEY",
)
SUMS = r"""find "$0" -type f -print0 | sort -z | xargs -0 sha256sum"""
# Long ago, so that any file system with relatime (mount(8)) would note a new access.
AGE = r"""find "$0" -type f -exec touch -a -d 2001-01-01 {} +"""
SEAL = r"""
find "$0" -printf '%p %y%m %U:%G %s %T@ %l\n' | sort
find "$0" -type f -printf '%p %A@\n' | sort
"""
TAKE_AWAY = f"""
set -e
mkdir -p {DISK}/opt/gitlab/embedded {DISK}/etc {DISK}/var/opt {VOLUMES}
cp -a /etc/gitlab {DISK}/etc/
cp -a /var/opt/gitlab {DISK}/var/opt/
cp -a /opt/gitlab/etc /opt/gitlab/sv /opt/gitlab/version-manifest.json {DISK}/opt/gitlab/
cp -a /opt/gitlab/embedded/nodes {DISK}/opt/gitlab/embedded/
rm -r {DISK}/var/opt/gitlab/backups
cp -a /etc/gitlab {VOLUMES}/config
cp -a /var/opt/gitlab {VOLUMES}/data
rm -r {VOLUMES}/data/backups
"""


@dataclass
class Left:
    """A server that was upgraded to 19, and what its Mattermost had before."""

    lab: Lab
    gitlab: Omnibus
    product: Product
    seed: Seed
    environment: dict[str, str]
    before: State
    first_set: str  # of 18.11, where no search finds it
    doctor: dict[str, Answer]  # what was said before the upgrade, by how far it had come

    def backup(self, *words: str) -> Answer:
        """Make a set, which has all rows and no leftover."""
        answer = self.product("backup", *words)
        assert answer.code == (4 if answer.document["warnings"] else 0), answer
        rows = self.manifest(answer)["database"]["rows"]
        tables = {f"public.{name}": count for name, (count, _) in self.before.tables.items()}
        assert rows == {name: tables[name] for name in rows}
        assert self.product.leftovers() == []
        return answer

    def environment_in(self, answer: Answer) -> dict[str, str]:
        settings = json.loads(self.lab.read(f"{answer.document['path']}/settings.json"))
        return dict(settings["environment"])

    def manifest(self, answer: Answer) -> dict[str, Any]:
        return dict(json.loads(self.lab.read(f"{answer.document['path']}/manifest.json")))

    def run(self, script: str, *arguments: str) -> str:
        return self.lab.run("sh", "-c", script, *arguments).stdout

    @contextlib.contextmanager
    def without(self, *paths: str) -> Iterator[None]:
        """Have some folders away meanwhile, and no set that could help out."""
        self.run(f"rm -rf {SETS}/*; mkdir {ASIDE}")
        for number, path in enumerate(paths):
            self.lab.run("mv", path, f"{ASIDE}/{number}")
        try:
            yield
        finally:
            for number, path in enumerate(paths):
                self.lab.run("mv", f"{ASIDE}/{number}", path)
            self.run(f"rm -r {ASIDE}; rm -rf {SETS}/*")


def prepare_to_leave(gitlab: Omnibus, product: Product) -> dict[str, Answer]:
    """Do what the doctor asks for, one thing after the other; gives what it said each time."""
    lab, said = gitlab.lab, {}
    assert product("rehearse", "--quick").code == 0
    said["nothing done"] = product("doctor", "--to", "19")
    assert product("rehearse").code == 0
    lab.run("sed", "-i", "s/^mattermost_external_url/# &/", "/etc/gitlab/gitlab.rb")
    lab.run("gitlab-ctl", "reconfigure")
    said["lines removed"] = product("doctor", "--to", "19")
    return said


@pytest.fixture(scope="module")
def left(base: Path, deb: Path) -> Iterator[Left]:
    with Lab(base=base, disk_size="2g") as lab:
        gitlab = install(lab, Spec(version="18.11.9"))
        product = install_product(lab, deb)
        seed = gitlab.seed()
        environment = gitlab.environment()
        first = product.backup()
        said = prepare_to_leave(gitlab, product)
        lab.run("mv", "/opt/gitlab/etc/gitlab-psql-rc", "/root/rc")
        said["GitLab's database elsewhere"] = product("doctor", "--to", "19")
        lab.run("mv", "/root/rc", "/opt/gitlab/etc/gitlab-psql-rc")
        lab.run("mv", first, "/root/first")
        before = gitlab.state()
        new, code = gitlab.upgrade()
        assert code == 0
        assert "mattermost" not in new.secrets()
        yield Left(lab, new, product, seed, environment, before, "/root/first", said)


# Before it


def found(answer: Answer) -> dict[str, tuple[str, str]]:
    return {
        check["name"]: (check["result"], check["detail"]) for check in answer.document["checks"]
    }


def test_the_doctor_leads_through_the_way_to_19(left: Left) -> None:
    first = left.doctor["nothing done"]
    assert first.code == 1
    checks = found(first)
    assert re.fullmatch(r"1 team, \d+ users, last post .*", checks["use"][1])
    assert checks["upgrade"][0] == "failed" and "blocked" in checks["upgrade"][1]
    result, lines = checks["gitlab.rb"]
    assert result == "failed"
    assert re.search(r"/etc/gitlab/gitlab\.rb line \d+: mattermost_external_url", lines)
    assert "gitlab_rails['mattermost_host'] = 'http://mattermost.example.test'" in lines
    assert checks["set"][0] == "failed" and "never rehearsed completely" in checks["set"][1]
    checks = found(left.doctor["lines removed"])
    assert checks["gitlab.rb"][0] == "passed"
    assert checks["upgrade"] == (
        "passed",
        "passes: Mattermost is not enabled, and erases Mattermost's secrets",
    )


def test_the_doctor_says_ready_with_the_right_code(left: Left) -> None:
    """The lab's PostgreSQL is Debian's, too old for 19; the path of GitLab's is given."""
    answer = left.doctor["lines removed"]
    results = {name: result for name, (result, _) in found(answer).items()}
    assert (answer.code, results.pop("PostgreSQL")) == (1, "failed")
    assert set(results.values()) == {"passed"}
    answer = left.doctor["GitLab's database elsewhere"]
    assert answer.code == 0
    assert found(answer)["PostgreSQL"][0] == "not run"


# After it


def test_with_the_environment_folder_nothing_is_missing(left: Left) -> None:
    answer = left.backup()
    assert (answer.code, answer.document["salvaged"]) == (0, [])
    wanted = {name: value for name, value in left.environment.items() if value}
    assert left.environment_in(answer) == wanted
    told = left.manifest(answer)
    assert (told["gitlab"], told["mattermost"]) == ("19.0.0", "10.11.20")
    assert told["credentials"]["verified"] is True


GUEST = (
    "SELECT rolname, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'gitlab-mm'"
)


def test_no_superuser_reads_what_mattermost_left(left: Left) -> None:
    """The map of 19 lets Mattermost in no more; a role of ours that is a member of its role reads."""
    left.gitlab.sql(f"SET ROLE gitlab_mattermost; {SPY} {OPERATOR}")
    try:
        left.backup()
        assert {(visit.role, visit.superuser) for visit in seen(left.lab)} == {("gitlab-mm", False)}
    finally:
        left.gitlab.sql("DROP OPERATOR public.!~~ (name, name)")
    assert left.gitlab.sql(GUEST) == []


def test_the_role_of_a_killed_run_goes_and_another_s_stays(left: Left) -> None:
    left.gitlab.sql('CREATE ROLE "gitlab-mm"')
    refused = left.product("backup")
    assert (
        refused.code == 1
        and "role gitlab-mm that this program did not create" in refused.error["message"]
    )
    assert left.gitlab.sql(GUEST) == ["gitlab-mm|"]
    mark = "made by gitlab-mm-backup for the time of a backup"
    left.gitlab.sql(f"COMMENT ON ROLE \"gitlab-mm\" IS '{mark}'")
    left.backup()
    assert left.gitlab.sql(GUEST) == []


def test_every_command_takes_a_salvaged_set(left: Left) -> None:
    name = left.backup().document["set"]
    (listed,) = [set_ for set_ in left.product("list").document["sets"] if set_["name"] == name]
    assert (listed["complete"], listed["salvaged"]) == (True, [])
    assert "  salvaged\n" in left.product.run("list").stdout
    assert left.product("verify", name).code == 0
    rehearsed = left.product("rehearse", name)
    assert (rehearsed.code, rehearsed.document["result"]) == (4, "incomplete")
    results = {check["name"]: check["result"] for check in rehearsed.document["checks"]}
    not_run = {check for check, result in results.items() if result != "passed"}
    assert not_run == {"boot", "answers"}, "19 has no program to start"
    refused = left.product("restore", "--yes", name)
    assert refused.code == 1 and "no longer bundles" in refused.error["detail"]


def test_a_salvage_stands_alone(left: Left) -> None:
    left.lab.write("/root/incremental.yml", "files: incremental\n")
    for _ in range(2):
        answer = left.backup("--config", "/root/incremental.yml")
        assert answer.document["base"] is None
        assert "listing" not in answer.document["parts"]


def test_cron_makes_no_set_there(left: Left) -> None:
    before = left.product("list").document["sets"]
    assert left.lab.run("gitlab-mm-backup", "--if-present", "--quiet").stdout == ""
    assert left.product("list").document["sets"] == before


def test_without_the_folder_gitlabs_own_backup_has_the_secrets(left: Left) -> None:
    with left.without(ENVIRONMENT):
        answer = left.backup()
        assert answer.document["salvaged"] == ["the environment folder"]
        environment = left.environment_in(answer)
        assert {name: environment.get(name) for name in RECOVERED} == {
            name: left.environment[name] for name in RECOVERED
        }
        assert left.manifest(answer)["credentials"]["verified"] is True


def test_without_that_too_an_earlier_set_has_them(left: Left) -> None:
    with left.without(ENVIRONMENT, BACKUPS):
        left.run(f"cp -a {left.first_set} {SETS}/$(cd {left.first_set} && sed -n "
                 r"""'s/^  "name": "\(.*\)",$/\1/p' manifest.json)""")  # fmt: skip
        answer = left.backup()
        assert answer.document["salvaged"] == ["the environment folder"]
        environment = left.environment_in(answer)
        assert {name: environment.get(name) for name in RECOVERED} == {
            name: left.environment[name] for name in RECOVERED
        }
        assert left.manifest(answer)["credentials"]["verified"] is True


def test_with_none_of_them_the_set_says_what_is_lost(left: Left) -> None:
    with left.without(ENVIRONMENT, BACKUPS):
        answer = left.backup()
    lost = answer.document["salvaged"]
    assert "GitLab's id and secret: register a new application" in lost
    assert {"the environment folder", "SqlSettings.AtRestEncryptKey"} <= set(lost)
    assert len(answer.document["warnings"]) == len(lost)


def test_a_first_reconfigure_that_is_aborted_leaves_enough(left: Left) -> None:
    """19.0.0 ends over any setting, its secrets gone and its service still there."""
    rb = "/etc/gitlab/gitlab.rb"
    left.run(f"cp -p {rb} /root/rb; ln -s /opt/gitlab/sv/mattermost /opt/gitlab/service/mattermost")
    try:
        left.gitlab.append_to_gitlab_rb("mattermost['enable'] = false")
        done = left.gitlab.gitlab_ctl("reconfigure", check=False)
        assert done.returncode == 1 and "Removed configurations found" in done.stdout
        assert left.backup().document["salvaged"] == []
    finally:
        left.run(f"mv /root/rb {rb}; rm /opt/gitlab/service/mattermost; gitlab-ctl reconfigure")


def test_where_the_account_is_gone_its_numbers_are_kept(left: Left) -> None:
    """As in a container of 19. Nobody of the following tests needs it."""
    _, _, uid, gid, *_ = left.lab.account("mattermost")
    left.lab.run("userdel", "mattermost")
    answer = left.backup()
    told = left.manifest(answer)["files"]["account"]
    assert told == {"user": uid, "group": gid, "uid": int(uid), "gid": int(gid)}
    assert answer.document["salvaged"] == []


# Trees


@pytest.fixture(scope="module")
def trees(left: Left) -> Left:
    """The same server's files as a mounted disk and as Docker's volumes, whose accounts are not known here.

    The disk's uploads lie elsewhere on it, behind an absolute link; this host has other files there.
    """
    left.lab.run("gitlab-ctl", "stop")
    try:
        left.run(TAKE_AWAY)
    finally:
        left.lab.run("gitlab-ctl", "start")
        left.gitlab.wait_until_ready()
    left.run(f"mkdir {DISK}/srv && mv {DISK}/var/opt/gitlab/mattermost/data {DISK}/srv/uploads")
    left.run(f"ln -s /srv/uploads {DISK}/var/opt/gitlab/mattermost/data")
    left.lab.write("/srv/uploads/of-this-host", "not to be taken")
    return left


@contextlib.contextmanager
def untouched(left: Left, tree: str) -> Iterator[None]:
    """Nothing below it changes, access times included; nothing is left on this host."""
    sums = left.run(SUMS, tree)
    left.run(AGE, tree)
    before = left.run(SEAL, tree)
    yield
    assert left.run(SEAL, tree) == before
    assert left.run(SUMS, tree) == sums
    left_over = left.run(f"ls -d {SCRATCH}/.* /run/*rehearsal*[!k] 2>/dev/null; true").split()
    assert [path for path in left_over if not path.endswith(("/.", "/.."))] == []
    assert left.product.leftovers() == []
    assert left.run("pgrep -af '[c]leanup.py'; true") == ""


def test_a_mounted_disk(trees: Left) -> None:
    with untouched(trees, DISK):
        answer = trees.backup("--root", DISK)
    assert (answer.code, answer.document["salvaged"]) == (0, [])
    told = trees.manifest(answer)
    assert told["files"]["folders"]["home"] == "/var/opt/gitlab/mattermost"
    assert told["files"]["folders"]["data"] == "/srv/uploads"
    assert told["credentials"]["verified"] is True, "asked in the copy of GitLab's own database"
    packed = f"tar --use-compress-program=zstd -tf {answer.document['path']}/files.tar.zst"
    members = trees.run(packed)
    assert "srv/uploads/" in members and "of-this-host" not in members
    trees.run(f"mkdir -p /root/salvaged; mv {answer.document['path']} /root/salvaged/")


def test_dockers_volumes(trees: Left) -> None:
    """They hold neither the environment folder nor GitLab's programs; the versions are in the data."""
    with untouched(trees, VOLUMES):
        answer = trees.backup("--root", VOLUMES)
    assert answer.document["salvaged"] == ["the environment folder"]
    told = trees.manifest(answer)
    assert (told["gitlab"], told["mattermost"]) == ("19.0.0", "10.11.20")
    assert told["files"]["account"]["user"].isdecimal()
    environment = trees.environment_in(answer)
    assert {name: environment.get(name) for name in RECOVERED} == {
        name: trees.environment[name] for name in RECOVERED
    }
    trees.run(f"mv {answer.document['path']} /root/salvaged/")


@pytest.mark.parametrize("pid_file", ["there", "gone"])
def test_the_data_of_a_running_server_are_refused(trees: Left, pid_file: str) -> None:
    path = f"/{DATA}/postmaster.pid"
    if pid_file == "gone":
        trees.lab.run("mv", path, "/root/postmaster.pid")
    try:
        answer = trees.product("backup", "--root", "/")
    finally:
        if pid_file == "gone":
            trees.lab.run("mv", "/root/postmaster.pid", path)
    assert answer.code == 1
    assert "server is running" in answer.error["message"]
    assert "(postgres) uses" in answer.error["detail"]
    assert trees.product.leftovers() == []


def test_a_pid_file_of_a_server_that_is_gone_is_no_hindrance(trees: Left) -> None:
    """Its number may be anybody's by now."""
    trees.lab.write(
        f"{DISK}/{DATA}/postmaster.pid", "1\n/var/opt/gitlab/postgresql/data\n0\n5432\n"
    )
    with untouched(trees, DISK):
        trees.backup("--root", DISK)
    trees.lab.run("rm", f"{DISK}/{DATA}/postmaster.pid")


BAD = {
    "no PostgreSQL": (f"rm -r {{}}/{DATA}", "There is no PostgreSQL data directory"),
    "no version": (
        f"truncate -s 0 {{}}/{DATA}/PG_VERSION",
        "There is no PostgreSQL data directory",
    ),
    "another major": (f"echo 9.6 >{{}}/{DATA}/PG_VERSION", "PostgreSQL 9.6, which wrote"),
    "no control file": (f"rm {{}}/{DATA}/global/pg_control", "cannot be read"),
    "torn control file": (f"truncate -s 99 {{}}/{DATA}/global/pg_control", "does not start"),
    "no home": ("rm -r {}/var/opt/gitlab/mattermost", "home folder is missing"),
    "no GitLab": ("rm -r {}/var", "There are no files of Omnibus GitLab"),
}


@pytest.mark.parametrize("name", BAD)
def test_trees_that_cannot_be_read(trees: Left, name: str) -> None:
    spoil, words = BAD[name]
    trees.run(f"rm -rf /mnt/bad; cp -a {DISK} /mnt/bad; " + spoil.format("/mnt/bad"))
    before = trees.product("list").document["sets"]
    answer = trees.product("backup", "--root", "/mnt/bad")
    assert (answer.code, words in answer.error["message"]) == (1, True), answer
    assert "/mnt/bad" in str(answer.error) or name in ("another major", "torn control file")
    assert trees.product("list").document["sets"] == before
    assert trees.product.leftovers() == []


def test_a_config_json_that_cannot_be_read_is_told(trees: Left) -> None:
    trees.run(
        f"rm -rf /mnt/bad; cp -a {DISK} /mnt/bad; echo '{{' >/mnt/bad/var/opt/gitlab/mattermost/config.json"
    )
    answer = trees.backup("--root", "/mnt/bad")
    assert answer.document["salvaged"] == ["config.json"]


@pytest.mark.parametrize("path", ["/mnt/nothing", "/etc/passwd"])
def test_a_root_that_is_none(trees: Left, path: str) -> None:
    answer = trees.product("backup", "--root", path)
    assert answer.code == 1 and "no files of Omnibus GitLab" in answer.error["message"]


def test_no_room_for_the_copy(trees: Left) -> None:
    trees.run("mkdir /mnt/small && mount -t tmpfs -o size=40m small /mnt/small")
    trees.lab.write("/root/small.yml", "scratch_dir: /mnt/small\n")
    with untouched(trees, DISK):
        answer = trees.product("backup", "--root", DISK, "--config", "/root/small.yml")
    assert answer.code == 1 and "Not enough disk space" in answer.error["message"]
    assert trees.run("ls -A /mnt/small") == ""


@pytest.mark.parametrize("moment", ["Copying", "Starting", "Making"])
def test_kill_9_leaves_nothing_running_and_no_copy(trees: Left, moment: str) -> None:
    with untouched(trees, DISK):
        program = ("gitlab-mm", "backup", "--root", DISK, "--verbose")
        running = trees.lab.popen(*program, stdout=subprocess.DEVNULL)
        assert running.stderr is not None
        next(line for line in running.stderr if moment in line)
        (pid, *_) = trees.lab.run("pgrep", "-f", "gitlab-mm backup --root").stdout.split()
        trees.lab.run("kill", "-s", "KILL", pid)
        running.wait(30)
        remains = f"ls -d {SCRATCH}/.gitlab* /run/*rehearsal*[!k]"
        remains += "; pgrep -f '[c]leanup.py'; pgrep -f '[p]ostgres -D /run'"
        wait_until(lambda: trees.run(f"{{ {remains}; }} 2>/dev/null; true") == "", 30, "all to go")
        trees.run(f"rm -rf {SETS}/.incomplete-*")  # the next run does; a half set is none


# What the sets are good for


def test_the_migrations_of_a_set_are_read_out_of_its_dump(trees: Left) -> None:
    code = (
        "from pathlib import Path; from gitlab_mm_backup.restore import preflight;"
        "from gitlab_mm_backup.store.sets import open_set;"
        f"set_ = open_set(Path('{trees.first_set}').resolve());"
        "found = preflight.version_facts(set_, '11.7.2', '16', Path('/opt/gitlab/embedded/bin'), 'postgres', False);"
        "print(found.migrations[1], found.migrations.get(142)); print(found.gitlab_sign_in)\n"
        "preflight.check_versions(set_, '11.7.2', '16', Path('/opt/gitlab/embedded/bin'))"
    )
    done = trees.lab.run(PYTHON, "-c", code, check=False)
    assert done.stdout.splitlines() == ["create_teams add_schemeid_to_roles", "True"]
    assert "Install Mattermost 11.7.3 or newer" in done.stderr or "142 to 144" in done.stderr


def test_a_disk_alone_is_enough_for_a_standalone_host(trees: Left, base: Path, deb: Path) -> None:
    """No GitLab has ever been there: the disk of the old machine is mounted, and Mattermost goes on."""
    disk = trees.lab.run_bytes("tar", "-C", DISK, "-cf", "-", ".").stdout
    with Lab(base=base, systemd=True, disk_size="1g") as lab:
        mattermost = standalone.install(lab, standalone.Spec())
        product = install_product(lab, deb)
        mattermost.start()
        lab.run("mkdir", DISK)
        lab.run_bytes("tar", "-C", DISK, "-xpf", "-", "--numeric-owner", input=disk)
        lab.write("/etc/gitlab-mm-backup/config.yml", "backup_path: /srv/sets\n", mode=0o640)

        made = product("backup", "--root", DISK)
        assert (made.code, made.document["salvaged"]) == (0, []), made
        words = ("--to", "standalone", "--replace", "--no-safety-backup")
        answer = product.restore(*words, made.document["path"])

        assert answer.code in (0, 4), answer
        after = mattermost.tables()
        passing = (*DERIVED, "sessions", "users", "audits", "status", "tokens")
        for name, (rows, digest) in trees.before.tables.items():
            if name not in passing:
                assert after[name] == f"{rows}|{digest}", name
        uploads = set(data_files(lab, "/opt/mattermost/data/").values())
        assert {file["sha256"] for file in trees.seed.files.values()} <= uploads
        secret = mattermost.config()["GitLabSettings"]["Secret"]
        assert secret == trees.environment["MM_GITLABSETTINGS_SECRET"]
        assert product.leftovers() == []


def test_they_bring_everything_back_on_another_host(trees: Left) -> None:
    """Last: it takes this GitLab away. Another 18.11 with other numbers, secrets and database is filled."""
    trees.gitlab.lose_everything()
    new = install(trees.lab, Spec(version="18.11.9", seed="second", first_uid=1200))
    sets = trees.run("ls -d /root/salvaged/*").split()
    assert len(sets) == 2
    for path in sets:
        answer = trees.product.restore("--no-safety-backup", path)
        assert answer.code == 0, answer
        # What Mattermost refreshes by itself: materialized views.
        derived = ("file_stats", "posts_by_team_day", "poststats", "sessions", "users", "audits")
        after = new.state()
        assert trees.before.differences(after, ignore=derived) == []
        session = new.sign_in("alice")
        assert session.user_id
