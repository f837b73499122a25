"""Ping, listeners and the log."""

from __future__ import annotations

import contextlib
import functools
import re

from gitlab_mm_backup.rehearsal import opened
from tests.conformance.subject import BESIDE, LISTEN, PING, Server, Subject
from tests.lab.errors import wait_until

STATES = f"{PING}?get_server_status=true"
FIRST = ("127.0.0.1", "[::1]")  # where a listener for all addresses is reached
# Form of ListenAddress -> the addresses at which it is reached.
FORMS = {
    ":{}": FIRST,
    "0.0.0.0:{}": FIRST,
    "127.0.0.2:{}": ("127.0.0.2",),
    "localhost:{}": ("127.0.0.1",),
    "[::]:{}": FIRST,
    "[::1]:{}": ("[::1]",),
}
REFUSED = ("", "8066", "127.0.0.1", ":http", ":70000", "unix:/run/mattermost.sock", "a b:8066")
BROWSER = ("--user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0")
PAGES = "/srv/conformance-tls"


def ping_by_version(subject: Subject) -> None:
    """The fields of the short answer."""
    found = subject.usual.get(PING)
    assert (found.status, found.header("content-type")) == (200, "application/json")
    names = {"AndroidLatestVersion", "AndroidMinVersion", "IosLatestVersion", "IosMinVersion"}
    if subject.numbers < (6,):
        names |= {"DesktopLatestVersion", "DesktopMinVersion"}
    if subject.numbers >= (9,):
        names |= {"ActiveSearchBackend"}
    assert set(found.document) == names | {"status"}
    assert found.document["status"] == "OK"
    assert found.document.get("ActiveSearchBackend", "database") == "database"


def ping_tells_of_database_and_files(subject: Subject) -> None:
    """With get_server_status, as the rehearsal asks."""
    found = subject.usual.get(STATES)
    assert found.status == 200
    states = {key: value for key, value in found.document.items() if "status" in key}
    assert states == dict.fromkeys(("status", "database_status", "filestore_status"), "OK")


def ping_tells_of_a_database_that_is_away(subject: Subject) -> None:
    """500 and UNHEALTHY; after it is back, the same process is well again."""
    away = "ALTER DATABASE {} ALLOW_CONNECTIONS {}"
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"
    sql = functools.partial(subject.gitlab.sql, database="postgres")
    assert subject.usual.get(STATES).status == 200
    try:
        sql(away.format(subject.name, "false"))
        sql(end.format(subject.name))
        found = subject.usual.get(STATES)
        assert found.status == 500, found
        assert found.document["database_status"] == found.document["status"] == "UNHEALTHY"
        assert found.document["filestore_status"] == "OK"
        assert subject.usual.get(PING).status == 200
    finally:
        sql(away.format(subject.name, "true"))
    wait_until(lambda: subject.usual.get(STATES).status == 200, 30, "the database")


def ping_tells_of_files_that_cannot_be_written(subject: Subject) -> None:
    """500 and UNHEALTHY."""
    folder = subject.lab.path(subject.usual.data)
    assert subject.usual.get(STATES).status == 200
    try:
        folder.chmod(0o500)
        found = subject.usual.get(STATES)
    finally:
        folder.chmod(0o750)
    assert found.status == 500, found
    assert found.document["filestore_status"] == found.document["status"] == "UNHEALTHY"
    assert found.document["database_status"] == "OK"


def listener_forms(subject: Subject) -> None:
    """Where each form of ListenAddress is reached; one of these is where the product asks."""
    with contextlib.ExitStack() as held:
        servers = [
            (form, held.enter_context(subject.started(listen=form.format(8070 + number))))
            for number, form in enumerate(FORMS)
        ]
        for form, server in servers:
            server.wait()
            place = server.url.removeprefix("http://").rpartition(":")[0]
            assert place in (*FORMS[form], "localhost"), (form, server.url)
            reached = [host for host in ("127.0.0.1", "127.0.0.2", "[::1]") if _at(server, host)]
            # All of 127.0.0.0/8 is this host.
            wanted = [
                *FORMS[form],
                *(["127.0.0.2"] if form[0] in ":0[" and "::1" not in form else []),
            ]
            assert sorted(reached) == sorted(wanted), form


def _at(server: Server, host: str) -> bool:
    number = server.environment["MM_SERVICESETTINGS_LISTENADDRESS"].rpartition(":")[2]
    return server.get(PING, url=f"http://{host}:{number}").status == 200


def listeners_that_are_refused(subject: Subject) -> None:
    """Exit code 1, before the database is asked."""
    for form in REFUSED:
        ended = subject.ended(listen=form, database="of_nothing")
        assert ended.code == 1, (form, ended)
        assert re.search("^Error: failed to load configuration: .*invalid config", ended.said, re.M)


def listener_that_is_occupied(subject: Subject) -> None:
    """Exit code 1, and the reason as an error."""
    assert subject.usual.get(PING).status == 200
    ended = subject.ended(listen=LISTEN)
    assert ended.code == 1, ended
    assert re.search("^Error: .*listen tcp .*address already in use", ended.said, re.M), ended


def listener_below_a_path(subject: Subject) -> None:
    """All addresses come after the path in SiteURL."""
    site = {"MM_SERVICESETTINGS_SITEURL": f"{subject.gitlab.spec.site_url}/chat"}
    with subject.running(environment=site) as server:
        assert server.url == f"http://{BESIDE}/chat"
        outside = server.get("/", url=f"http://{BESIDE}")
        assert (outside.status, outside.header("location")) == (302, "/chat"), outside
        assert server.get(PING, url=f"http://{BESIDE}").status in (302, 404)


def listener_with_tls(subject: Subject) -> None:
    """The server's own TLS, at the same address."""
    lab = subject.lab
    lab.run("install", "-d", PAGES)
    files = ("-keyout", f"{PAGES}/key.pem", "-out", f"{PAGES}/cert.pem")
    subject_of = ("-subj", "/CN=mattermost.example.test", "-days", "2")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    lab.run("openssl", "req", "-x509", *curve, *subject_of, *files)
    lab.run("chown", "-R", "mattermost", PAGES)
    secured = {
        "MM_SERVICESETTINGS_CONNECTIONSECURITY": "TLS",
        "MM_SERVICESETTINGS_TLSCERTFILE": files[3],
        "MM_SERVICESETTINGS_TLSKEYFILE": files[1],
    }
    with subject.started(environment=secured) as server:
        plain = f"http://{BESIDE}"
        wait_until(
            lambda: server.get(PING, "--insecure").status or server.get(PING, url=plain).status,
            60,
            "the server",
        )
        assert server.url == f"https://{BESIDE}"
        assert server.get(PING, "--insecure").status == 200
        assert server.get(PING, url=plain).status != 200


def front_page(subject: Subject) -> None:
    """What browsers see first: they may keep it; until 6 they could ask whether it has changed."""
    old = subject.numbers < (7,)  # when it was served as any file
    kind = "text/html; charset=utf-8" if old else "text/html"
    answer = subject.usual.get("/", *BROWSER)
    assert (answer.status, answer.header("content-type")) == (200, kind)
    assert answer.header("cache-control") == "no-cache, max-age=31556926, public"
    policy = answer.header("content-security-policy")
    assert policy.startswith("frame-ancestors 'self'") and "; script-src 'self'" in policy
    again = ("--header", "If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT")
    assert subject.usual.get("/", *BROWSER, *again).status == (304 if old else 200)


def websocket_by_origin(subject: Subject) -> None:
    """Pages of SiteURL may connect, before of the host that is asked; or those in AllowCorsFrom."""
    server, site = subject.usual, subject.gitlab.spec.site_url
    assert _connected(server, site, site) == 101
    assert _connected(server, server.url) == (101 if subject.numbers < (9,) else 403)
    assert _connected(server, "http://elsewhere.example.test") == 403
    with subject.running(environment=opened.overrides("http://allowed.example.test", "")) as other:
        assert _connected(other, "http://allowed.example.test") == 101
        assert _connected(other, other.url) == 403


def _connected(server: Server, origin: str, url: str = "") -> int:
    """The status of the answer to a browser that opens a websocket."""
    names = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Origin": origin,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    headers = [word for pair in names.items() for word in ("--header", ": ".join(pair))]
    if url:  # as nginx asks
        headers += ["--header", f"Host: {url.rpartition('/')[2]}"]
    return server.get("/api/v4/websocket", *headers, "--max-time", "0.5").status


def log_is_json(subject: Subject) -> None:
    """Each line on the console has level and msg."""
    server = subject.usual
    assert all("level" in line and "msg" in line for line in server.lines)
    assert len(server.lines) == len(server.said.splitlines())
    listening = [line["msg"] for line in server.lines if "is listening on" in line["msg"]]
    assert listening == [f"Server is listening on {LISTEN}"]
