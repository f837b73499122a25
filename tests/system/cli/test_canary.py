"""A secret in every input, and every command: it must come out nowhere.

A verb that the command line has and this file does not know how to drive fails the first test; an option of
config.yml whose kind is secret is given the canary without an edit here.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import pytest
import yaml

from gitlab_mm_backup.config.option_text import example
from gitlab_mm_backup.config.options import HIDDEN, Option
from gitlab_mm_backup.config.schema import OPTIONS
from gitlab_mm_backup.system.redaction import Secret
from tests.lab.installed_package import JOURNAL, Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab
from tests.unit.cli.test_json_schemas import verbs

CANARY = "Zq7w-canary-4711/+0815"  # its first four characters may be shown
NEEDLES = [
    CANARY,
    quote(CANARY, safe=""),
    quote(CANARY),
    base64.b64encode(CANARY.encode()).decode(),
]
CONFIG = "/etc/gitlab-mm-backup/config.yml"
GITLAB_YML = "/opt/gitlab/embedded/service/gitlab-rails/config/gitlab.yml"
SECRETS = "/etc/gitlab/gitlab-secrets.json"
SETS = "/var/opt/gitlab/backups/mattermost"
STATE = "/var/lib/gitlab-mm-backup"
HBA = "/var/opt/gitlab/postgresql/data/pg_hba.conf"
UPGRADE = "gitlab-ce 18.11.9-ce.0 amd64 none < 19.0.0-ce.0 amd64 none /var/cache/x.deb"

FOREIGN_KEY = "0123-4567-89ab-cdef-0123-4567-89ab-cdef"
CONVERT = ["--from", "gitlab", "--to", "email"]

# How each verb is driven when all is well, in this order; what it says is read, not what it does.
NEWEST = "NEWEST"  # the name of the newest set, when the verb is driven
DRIVES: dict[str, list[list[str]]] = {
    "config show": [[]],
    "config check": [[]],
    "config explain": [["backup_path"], ["no_such_option"]],
    "backup": [[], ["--if-present"], ["--due", "no time"], ["--scheduled"]],
    "list": [[]],
    "info": [[], ["/nowhere"]],
    "ls": [[], ["--user", "alice"], ["--channel", "nowhere"]],
    "find": [["--file", "*"], ["--all", "--text", "release"], ["/nowhere", "--file", "*"]],
    "names": [["channels"], ["users", "latest"], ["teams", "/nowhere"]],
    "diff": [["latest"], ["latest", "latest"], ["/nowhere"]],
    "extract": [["--to", "/root/found"], ["--to", "/proc/no"]],
    "recover": [
        ["--user", "alice", "--dry-run"],
        ["--channel", "nowhere"],
        ["--undo", "/nowhere"],
    ],
    "verify": [[], ["/nowhere"]],
    "rehearse": [["--quick"], [], ["--if-due"]],
    "open": [["--for", "1s"], ["--as", "nobody"], ["/nowhere"]],
    "doctor": [[], ["--layout"]],
    "status": [[], ["--nagios"]],
    "report": [["/root/report.html"], ["/proc/no"]],
    "gate": [[UPGRADE]],
    "sso check": [[], ["--from", "/nowhere"]],
    "sso repair": [["--dry-run"], [], ["--undo"]],
    "notify": [["--test"]],
    "offsite": [[]],
    "kit": [
        [],
        ["/root/kit.html"],
        ["--package", "/nowhere"],
    ],  # with --with-secrets it is for telling them
    "accounts convert": [
        [*CONVERT, "--dry-run"],
        [*CONVERT, "--admin", "alice", "--yes"],
        ["--undo", "/nowhere"],
    ],
    "restore": [["--dry-run"], ["--yes"], ["--rollback"], ["nothing"]],
    "pin": [[NEWEST], ["/nowhere"], ["latest"]],
    "unpin": [[NEWEST], ["/nowhere"]],
    "delete": [[NEWEST, "--yes"], ["/nowhere", "--yes"], ["latest"]],
    "prune": [["--dry-run"], [], ["--host", "nobody"]],
    "host": [[]],
    "host take-over": [[], ["nobody"], ["f" * 32]],
    "host new": [[]],
    "host trust": [[FOREIGN_KEY], ["nobody"]],
    "host distrust": [[FOREIGN_KEY], ["nobody"]],
    "place forget": [[SETS], ["/nowhere"]],
}
BOTH = ["-v", "--json"]  # steps on stderr, the answer on stdout: all there is to say, in one run
# What is driven again under each fault.
UNDER_FAULTS = ["backup", "restore --dry-run", "rehearse --quick", "doctor", "status", "sso check"]

# Reads what others can see of every process, again and again; says what it finds, once. An environment is only
# another one where a program has begun, which has another command line, or where the account has changed.
WATCH = """
import os, sys, time
needles = [word.encode() for word in sys.stdin.readline().rstrip("\\n").split("\\t")]
told, seen = set(), {}
print("ready", flush=True)
def content(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
def parents(pid):
    while pid not in ("0", "1", ""):
        yield pid
        pid = dict(line.split(b":", 1) for line in content(pid, "status").splitlines() if b":" in line).get(
            b"PPid", b"").decode().strip()
while True:
    time.sleep(0.002)
    before, seen = seen, {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        line = content(pid, "cmdline")
        try:
            owner = os.stat(f"/proc/{pid}").st_uid
        except OSError:
            owner = 0
        if before.get(pid) == (line, owner):
            seen[pid] = (line, owner)
            continue
        environment = content(pid, "environ")
        if environment:  # or the program is still being put in place
            seen[pid] = (line, owner)
        found = {"cmdline"} if any(needle in line for needle in needles) else set()
        if any(needle in environment for needle in needles):
            ours = any(b"gitlab-mm" in content(parent, "cmdline") for parent in parents(pid))
            found |= {"environ"} if ours and owner not in OWNERS else set()
        for name in sorted(found):
            words = name + ": " + line[:120].replace(b"\\0", b" ").decode(errors="replace")
            if words not in told:
                told.add(words)
                print(words, flush=True)
"""
# Keeps all that the journal is sent, as it comes.
JOURNALD = """
import os, socket
os.makedirs("/run/systemd/journal", exist_ok=True)
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind("/run/systemd/journal/socket")
with open("/root/journal", "ab", buffering=0) as file:
    print("ready", flush=True)
    while True:
        file.write(journal.recv(1 << 20) + b"\\n")
"""
# Keeps what a webhook is told: its body, for its address is the secret.
WEBHOOK = """
import http.server
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with open("/root/notices", "ab") as file:
            file.write(self.rfile.read(int(self.headers["Content-Length"])) + b"\\n")
        self.send_response(200)
        self.end_headers()
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8099), Hook)
print("ready", flush=True)
server.serve_forever()
"""
RCLONE = f"""[canary]
type = s3
provider = Minio
access_key_id = somebody
secret_access_key = {CANARY}
endpoint = http://127.0.0.1:1
"""
PRINTS_ALL = "#!/bin/sh\nenv\n"  # a hook that tells all that it is told


@dataclass
class House:
    """A server full of canaries, and what came out of it."""

    lab: Lab
    gitlab: Omnibus
    product: Product
    needles: list[str]
    found: list[str] = field(default_factory=list)
    codes: dict[str, set[int]] = field(default_factory=dict)

    def drive(self, verb: str, arguments: list[str], *ways: list[str], what: str = "") -> None:
        """Run a verb in each way; look for the canary in all that it says."""
        for how in ways:
            given = [self.newest() if word == NEWEST else word for word in arguments]
            words = ["gitlab-mm", *verb.split(), *how, *given]
            # Who is asked for a password is given the canary.
            done = self.lab.run(*words, input=f"{CANARY}\n", check=False, timeout=120)
            said = f"{what}gitlab-mm {verb} {' '.join([*how, *arguments])}"
            assert "Traceback" not in done.stderr, f"{said}: {done.stderr}"
            self.look(said, done.stdout + done.stderr)
            self.codes.setdefault(verb, set()).add(done.returncode)
            assert done.returncode != 3, f"{said}: the lock is held"

    def newest(self) -> str:
        """The name of the newest complete set."""
        found = self.lab.run("find", SETS, "-name", "manifest.json").stdout.split()
        return max(path.split("/")[-2] for path in found)

    def look(self, where: str, text: str) -> None:
        self.found += [f"{where}: {needle[:8]}…" for needle in self.needles if needle in text]

    def look_into_files(self, *roots: str) -> None:
        """Look into all that was written for others' eyes."""
        grep = ["grep", "-r", "-l", "-s", "-F", *(f"-e{needle}" for needle in self.needles), *roots]
        self.found += self.lab.run(*grep, check=False).stdout.splitlines()


@dataclass
class Heard:
    """What a program beside a block says."""

    stdout: IO[str]
    lines: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Wait for the next line."""
        self.lines.append(self.stdout.readline().rstrip("\n"))
        return self.lines[-1]


@contextlib.contextmanager
def listening(lab: Lab, program: str, words: str = "") -> Iterator[Heard]:
    """Run a program beside the block; gives what it prints, complete at the end."""
    with open(lab.path("/root/words"), "w", encoding="utf-8") as file:
        file.write(words + "\n")
    daemon = lab.popen("sh", "-c", 'exec python3 -I -c "$0" </root/words', program)
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "ready\n", daemon.communicate()
    heard = Heard(daemon.stdout)
    try:
        yield heard
    finally:
        lab.send_signal(daemon, signal.SIGTERM)
        heard.lines += daemon.stdout.read().splitlines()
        daemon.communicate(timeout=30)


def is_secret(option: Option) -> bool:
    """Whether an option's value is never shown; other kinds cannot show a Secret at all."""
    try:
        return option.kind is not None and option.kind.show(Secret("x")) == HIDDEN
    except (TypeError, AttributeError):
        return False


def settings_full_of_canaries() -> str:
    """A config.yml with the example of every option that has a secret, and the canary in each secret."""
    filled = {option.name: filled_in(option) for option in OPTIONS}
    wanted = {name: value for name, value in filled.items() if CANARY in str(value)}
    return str(yaml.safe_dump(wanted))


def filled_in(option: Option) -> Any:
    """An option as its example gives it, the canary at the end of each secret."""
    given = given_by(option)
    if is_secret(option):
        return f"{given or ''}{CANARY}"
    if option.several:
        names = [inner.name for inner in option.options if is_secret(inner)]
        return [
            {**entry, **{name: f"{entry.get(name, '')}{CANARY}" for name in names}}
            for entry in given or []
        ]
    if option.options:
        inner = {inner.name: filled_in(inner) for inner in option.options}
        return {name: value for name, value in inner.items() if value is not None}
    return given


def given_by(option: Option) -> Any:
    """An option's example; PyYAML takes a key ``on`` for true, as YAML 1.1 has it."""
    if not option.example:
        return None
    text = re.sub(r"^( *)on:", r"\1'on':", example(option), flags=re.MULTILINE)
    return yaml.safe_load(text)[option.name]


def plant(lab: Lab, gitlab: Omnibus) -> None:
    """Put the canary wherever an administrator keeps a secret."""
    folder = gitlab.env_folder
    source = lab.path(f"{folder}/MM_SQLSETTINGS_DATASOURCE")
    gitlab.sql(f"ALTER ROLE gitlab_mattermost PASSWORD '{CANARY}'")
    hba = lab.path(HBA)
    hba.write_text(f"local all gitlab_mattermost scram-sha-256\n{hba.read_text()}")
    gitlab.gitlab_ctl("hup", "postgresql")
    source.write_text(f"{source.read_text().strip()} password='{CANARY}'")
    lab.path(f"{folder}/MM_EMAILSETTINGS_SMTPPASSWORD").write_text(CANARY)
    config = gitlab.config()
    for section, key in (
        ("EmailSettings", "SMTPPassword"),
        ("FileSettings", "AmazonS3SecretAccessKey"),
        ("SqlSettings", "AtRestEncryptKey"),
        ("LdapSettings", "BindPassword"),
    ):
        config.setdefault(section, {})[key] = CANARY
    lab.path(f"{gitlab.home}/config.json").write_text(json.dumps(config))
    secrets = gitlab.secrets()
    secrets.setdefault("gitlab_rails", {})["secret_key_base"] = CANARY
    lab.path(SECRETS).write_text(json.dumps(secrets))
    lab.write("/root/.config/rclone/rclone.conf", RCLONE, mode=0o600)
    gitlab.append_to_gitlab_rb(f"gitlab_rails['smtp_password'] = '{CANARY}'")
    yml = lab.path(GITLAB_YML)
    yml.write_text(yml.read_text() + f"\n# smtp_password: {CANARY}\n")
    for phase in ("pre-backup", "post-backup", "pre-restore", "post-restore", "on-failure"):
        hook = f"/etc/gitlab-mm-backup/hooks/{phase}.d/10-tell"
        lab.write(hook, PRINTS_ALL)
        lab.run("chmod", "755", hook)
    gitlab.restart_mattermost()


@pytest.fixture(scope="module")
def house(base: Path, deb: Path) -> Iterator[House]:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        gitlab.seed()
        product = install_product(lab, deb)
        plant(lab, gitlab)
        own = gitlab.environment()["MM_GITLABSETTINGS_SECRET"].strip()
        key = json.loads(lab.read(f"{STATE}/signing-key.json"))["private"]
        yield House(lab, gitlab, product, [*NEEDLES, own, key])


def faults(house: House) -> dict[str, tuple[str, str]]:
    """Inputs that are broken near a secret: the file, and what it holds then."""
    env = house.gitlab.env_folder
    return {
        "config.json is no JSON": (
            f"{house.gitlab.home}/config.json",
            f'{{"SqlSettings": {{"AtRestEncryptKey": "{CANARY}", }}',
        ),
        "config.json has an odd form": (
            f"{house.gitlab.home}/config.json",
            json.dumps({"SqlSettings": CANARY, "EmailSettings": [CANARY]}),
        ),
        "gitlab-secrets.json is no JSON": (SECRETS, f'{{"mattermost": "{CANARY}"'),
        "the data source is none": (
            f"{env}/MM_SQLSETTINGS_DATASOURCE",
            f"postgres://gitlab_mattermost:{quote(CANARY, safe='')}@[::1/x {CANARY}",
        ),
        "the password is wrong": (
            f"{env}/MM_SQLSETTINGS_DATASOURCE",
            f"host=127.0.0.1 port=1 user=x dbname=y password='{CANARY}'",
        ),
        "gitlab.yml is no YAML": (GITLAB_YML, f"production:\n  backup: [{CANARY}\n"),
    }


def test_every_verb_can_be_driven() -> None:
    unknown = sorted(set(verbs()) - set(DRIVES))
    assert not unknown, f"add to DRIVES how {', '.join(unknown)} is driven"
    assert sorted(DRIVES) == sorted(verbs())


def test_every_secret_option_is_given_the_canary() -> None:
    every = [inner for option in OPTIONS for inner in (option, *option.options)]
    text = settings_full_of_canaries()
    assert text.count(CANARY) >= len([option for option in every if is_secret(option)])


def test_no_command_lets_a_secret_out(house: House) -> None:
    lab = house.lab
    # A process's environment can be read by its own account and by root: Mattermost's own, and that
    # of rehearsals, under which Mattermost is started from a set, hold its secrets by their nature.
    told = lab.run("sh", "-c", "id -u mattermost; id -u gitlab-mm").stdout.split()
    owners = f"(0, {', '.join(told)})"
    watch = WATCH.replace("OWNERS", owners)
    with contextlib.ExitStack() as beside:
        seen = beside.enter_context(listening(lab, watch, "\t".join(house.needles)))
        beside.enter_context(listening(lab, JOURNALD))
        beside.enter_context(listening(lab, WEBHOOK))
        for verb, all_arguments in DRIVES.items():
            for arguments in all_arguments:
                house.drive(verb, arguments, ["-v"], ["--json"])
        for name, (path, text) in faults(house).items():
            with replaced(lab, path, text):
                for words in UNDER_FAULTS:
                    verb = next(drive for drive in DRIVES if words.startswith(drive))
                    house.drive(verb, words[len(verb) :].split(), BOTH, what=f"{name}: ")
        for text in broken_settings():
            lab.write(CONFIG, text)
            for verb in ("config show", "config check", "status", "backup"):
                house.drive(verb, [], BOTH)
            house.drive("notify", ["--test"], BOTH)
            house.drive("kit", [], BOTH)
            for name in holding_the_canary(text):
                house.drive("config explain", [name], BOTH)
        lab.run("rm", "-f", CONFIG)
    assert lab.path("/root/journal").stat().st_size > 10_000
    assert lab.path("/root/notices").stat().st_size > 0
    house.look_into_files("/root/notices")
    house.look_into_files(
        "/root/journal", "/root/report.html", "/root/kit.html", "/var/log/gitlab-mm", "/var/mail"
    )
    house.look_into_files("/var/opt/gitlab/node-exporter/textfile_collector", "/run", "/tmp")
    house.look_into_files(f"{STATE}/rehearsals.jsonl", JOURNAL, f"{STATE}/report.html")
    for name in ("manifest.json", "SHA256SUMS", "signature.json", "rehearsal.json"):
        paths = lab.run("find", SETS, "-name", name).stdout.split()
        assert paths
        house.look_into_files(*paths)
    assert [*house.found, *seen.lines] == []
    done = {verb for verb, codes in house.codes.items() if codes & {0, 4}}
    assert set(DRIVES) - done <= {"gate", "notify"}, house.codes


def broken_settings() -> Iterator[str]:
    """A config.yml with secrets in it, right and wrong."""
    full = settings_full_of_canaries()
    elsewhere = "offsite: [{remote: 'canary:sets', retries: 0}]\n"
    yield full.replace("https://mattermost.example.org", "http://127.0.0.1:8099") + elsewhere
    yield f"keep_time: {CANARY}\nrehearse: {CANARY}\n"
    yield f"backup_path: [{CANARY}\n"
    yield f"{CANARY}\n"


def holding_the_canary(text: str) -> list[str]:
    """Return the names of the options that have the canary; none if ``text`` is not YAML of options."""
    try:
        options = yaml.safe_load(text)
    except yaml.YAMLError:
        return []
    if not isinstance(options, dict):
        return []
    return [name for name, value in options.items() if CANARY in json.dumps(value, default=str)]


@contextlib.contextmanager
def replaced(lab: Lab, path: str, text: str) -> Iterator[None]:
    """Another content for a while, with owner and mode as they are."""
    file = lab.path(path)
    kept = file.read_bytes()
    file.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        file.write_bytes(kept)


def test_the_watch_sees_what_it_is_for(house: House) -> None:
    """A watch that finds nothing is worth something only if it would find something."""
    child = ["python3", "-c", "import time; time.sleep(60)", "gitlab-mm"]
    quiet = {"CANARY": CANARY}
    watch = WATCH.replace("OWNERS", "()")
    with listening(house.lab, watch, "\t".join(house.needles)) as seen:
        loud = house.lab.popen(*child, CANARY)
        assert seen.line().startswith("cmdline: ")
        hidden = house.lab.popen(*child, env=quiet)
        assert any(seen.line().startswith("environ: ") for _ in range(9)), seen.lines
        for program in (loud, hidden):
            house.lab.send_signal(program, signal.SIGKILL)
            program.wait()
