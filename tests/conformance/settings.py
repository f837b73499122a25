"""config.json and the environment."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

from gitlab_mm_backup.mattermost import standalone
from gitlab_mm_backup.postgresql.endpoint import Endpoint, Login
from gitlab_mm_backup.rehearsal import boot, opened
from tests.conformance.subject import CONFIG, Subject
from tests.lab.fakes import go_json

CLIENT = "/api/v4/config/client"
NOWHERE = Endpoint("/nowhere", 5432, "nothing", Login("nobody"), Login("nobody"))
# Settings that later versions have no more.
GONE = {
    "MM_BLEVESETTINGS_ENABLEINDEXING": (10, 11),
    "MM_NOTIFICATIONLOGSETTINGS_ENABLEFILE": (11,),
}
UNREADABLE = ("{", "[]", '{"TeamSettings": {"MaxUsersPerTeam": "many"}}')


def environment_wins(subject: Subject) -> None:
    """A variable wins over the value in config.json."""
    client = subject.usual.get(f"{CLIENT}?format=old").document
    assert client["SiteName"] == "of the environment"
    assert client["EnableOpenServer"] == "true"
    assert "SiteURL" not in client or client["SiteURL"] == subject.gitlab.spec.site_url


def environment_types(subject: Subject) -> None:
    """Names in any case, booleans as Go parses them; what is no such value is passed over."""
    client = subject.usual.get(f"{CLIENT}?format=old").document
    names = ("EnableOpenServer", "EnableUserCreation", "WebsocketPort", "WebsocketSecurePort")
    assert [client[name] for name in names] == ["true", "true", "8888", "443"]


def environment_as_the_product_reads_it(subject: Subject) -> None:
    """What the product calls effective settings is what the server says of itself."""
    client = subject.usual.get(f"{CLIENT}?format=old").document
    settings = subject.usual.settings
    assert settings.text("TeamSettings", "SiteName") == client["SiteName"]
    for section, key in (
        ("TeamSettings", "EnableOpenServer"),
        ("TeamSettings", "EnableUserCreation"),
        ("EmailSettings", "EnableSignInWithEmail"),
    ):
        assert settings.flag(section, key) is (client[key] == "true"), key
    for key in ("WebsocketPort", "WebsocketSecurePort"):
        assert str(settings.tree["ServiceSettings"][key]) == client[key]


def environment_is_not_written(subject: Subject) -> None:
    """config.json keeps its own values, or defaults: never those of the service."""
    found = subject.usual.config
    assert found["TeamSettings"]["SiteName"] == "of the file"
    assert found["GitLabSettings"]["Id"] == "of the file"
    assert found["GitLabSettings"]["Enable"] is False
    assert found["ServiceSettings"]["ListenAddress"] == ":8065"
    assert "conformance" not in found["SqlSettings"]["DataSource"]


def config_is_completed(subject: Subject) -> None:
    """What is missing or null gets its default, in the server's order and spelling; what is unknown goes."""
    found = subject.usual.config
    assert list(found)[:3] == ["ServiceSettings", "TeamSettings", "ClientRequirements"]
    assert "OfNoVersion" not in found
    assert found["TeamSettings"]["MaxUsersPerTeam"] == 77
    assert "maxusersperteam" not in found["TeamSettings"]
    assert found["GitLabSettings"]["Secret"] == ""
    assert found["LogSettings"]["EnableConsole"] is True
    assert list(found["GitLabSettings"])[:4] == ["Enable", "Secret", "Id", "Scope"]


def config_has_what_a_rehearsal_overrides(subject: Subject) -> None:
    """Each variable that directs a rehearsal or an opened set is one of this version, or known to be gone."""
    variables = {**boot.overrides(Path("/data"), NOWHERE), **opened.overrides("http://x", "")}
    there = {
        f"MM_{section}_{key}".upper()
        for section, inside in subject.usual.config.items()
        if isinstance(inside, dict)
        for key in inside
    }
    unknown = {name for name in variables if name.startswith("MM_")} - there - {"MM_INSTALL_TYPE"}
    assert unknown <= {name for name, gone in GONE.items() if subject.numbers >= gone}


def config_is_corrected(subject: Subject) -> None:
    """SiteURL loses the slash at its end, the local directory gets one."""
    found = subject.usual.config
    assert found["ServiceSettings"]["SiteURL"] == "http://of-the-file.example.test"
    assert found["FileSettings"]["Directory"] == "./of-the-file/"


def config_salts_are_made(subject: Subject) -> None:
    """A start makes the salts that are empty, and keeps them in the file."""
    salts = [
        subject.usual.config[section][key]
        for section, key in (
            ("FileSettings", "PublicLinkSalt"),
            ("EmailSettings", "InviteSalt"),
            ("SqlSettings", "AtRestEncryptKey"),
        )
        if key in subject.usual.config[section]
    ]
    assert len(salts) > 1
    for salt in salts:
        assert re.fullmatch("[a-z0-9]{32}", salt), salt


def config_has_gos_form(subject: Subject) -> None:
    """JSON as Go indents it, without a newline at the end."""
    text = subject.lab.read(subject.usual.config_file)
    assert text == go_json.dumps(json.loads(text))


def config_is_written_in_place(subject: Subject) -> None:
    """The same file, with its owner and mode."""
    found = subject.lab.path(subject.usual.config_file).stat()
    assert found.st_mode & 0o777 == 0o640
    assert found.st_uid == int(subject.lab.account("mattermost")[2])
    assert found.st_size > len(json.dumps(CONFIG))
    assert found.st_ino == subject.usual.config_inode


def config_is_written_at_each_start(subject: Subject) -> None:
    """Even where nothing is missing; SIGTERM ends the server, with 0."""
    whole = subject.usual.config
    with subject.running(config=json.dumps(whole)) as server:
        assert subject.lab.read(server.config_file) == go_json.dumps(whole)
        subject.lab.send_signal(server.process, signal.SIGTERM)
        assert server.ended().code == 0


def config_that_is_missing_is_made(subject: Subject) -> None:
    """With defaults; before 6 for its account alone."""
    with subject.running(config=None) as server:
        assert server.config["TeamSettings"]["SiteName"] == "Mattermost"
        mode = subject.lab.path(server.config_file).stat().st_mode & 0o777
        assert mode == (0o600 if subject.numbers < (6,) else 0o644), oct(mode)


def config_that_is_unreadable_ends_it(subject: Subject) -> None:
    """What is no JSON, or of a wrong type: exit code 1, and a line that begins with "Error: "."""
    for text in UNREADABLE:
        ended = subject.ended(config=text)
        assert ended.code == 1, ended
        assert re.search("^Error: failed to load configuration: ", ended.said, re.M), ended


def config_that_cannot_be_written_ends_it(subject: Subject) -> None:
    """Exit code 1."""
    ended = subject.ended(owner="root", mode=0o644)
    assert ended.code == 1, ended
    assert re.search("^Error: failed to load configuration: .*persist", ended.said, re.M), ended


def client_config_by_version(subject: Subject) -> None:
    """What every browser may know."""
    client = subject.usual.get(f"{CLIENT}?format=old").document
    assert client["Version"] == subject.version
    assert (
        client["DiagnosticId"]
        == subject.sql("SELECT value FROM systems WHERE name = 'DiagnosticId'")[0]
    )
    assert ("SiteURL" in client) is (subject.numbers >= (7,))
    # From 11 on the button on the page is only for those who have a licence.
    button = None if subject.numbers >= (11,) else "true"
    assert client.get("EnableSignUpWithGitLab") == button
    old = (200, 200) if subject.numbers >= (11,) else (501, 400)
    asked = ("", "?format=new")
    assert tuple(subject.usual.get(f"{CLIENT}{query}").status for query in asked) == old


def version_is_told(subject: Subject) -> None:
    """By the program, as the product asks for it: as the service's account, without its environment."""
    answers = [
        subject.lab.run(subject.program, *words, user="mattermost", check=False)
        for words in standalone.VERSION
    ]
    versions = [standalone.version_in(done.stdout) for done in answers if done.returncode == 0]
    assert versions and set(versions) == {subject.version}, answers
    assert (answers[0].returncode == 0) is (subject.numbers < (10, 11))
