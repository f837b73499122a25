"""gitlab-mm open: who may look at what, that it cannot be reached otherwise, and that nothing is left of it."""

from __future__ import annotations

import base64
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.installed_package import install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import PYTHON, Lab, wait_until
from tests.system.helpers.browser import CONTRASTS, chromium
from tests.system.helpers.faults import Fault, environment
from tests.system.helpers.faults_forge import copied, forge
from tests.system.helpers.opened import PORT, Opening, opened
from tests.system.helpers.rehearsals import House, house, live, packets

HOME = "/var/opt/gitlab/mattermost"
PROGRAM = "/opt/gitlab/embedded/bin/mattermost"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
SIGN_IN = {"Accept": "text/html,application/xhtml+xml"}
WEBSOCKET = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
}
# Every socket of the main network that listens or is bound.
LISTENING = ("sh", "-c", "tail -qn +2 /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6")
# Looks for words in what every account can read of processes, and what they were started with.
SEARCH = """
import json, os, sys
found, needles = [], json.load(sys.stdin)
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("cmdline", "environ"):
        try:
            content = open(f"/proc/{pid}/{name}", "rb").read()
        except OSError:
            continue
        found += [f"{name} {needle}" for needle in needles if needle.encode() in content]
print(json.dumps(found))
"""
# Runs a command on a terminal until it is open; then the terminal closes.
TERMINAL = """
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
said = b""
while b"closes it" not in said:
    said += os.read(terminal, 4096)
print(pid, flush=True)
os.close(terminal)
print(os.waitpid(pid, 0)[1])
"""


@pytest.fixture(scope="module")
def place(base: Path, deb: Path) -> Iterator[House]:
    with house(base, deb) as made:
        yield made
        made.expect_nothing_left()


def listening(lab: Lab) -> set[tuple[str, str]]:
    """Local address and state of each socket that waits for others, as the kernel writes them."""
    fields = (line.split() for line in lab.run(*LISTENING).stdout.splitlines())
    return {(field[1], field[3]) for field in fields if field[3] in ("0A", "07")}


def rows(place: House, statement: str) -> list[str]:
    return place.gitlab.sql(statement)


def test_an_address_that_works_once(place: House) -> None:
    before = listening(place.lab)
    with opened(place.lab, "--as", "bob") as opening:
        assert listening(place.lab) - before == {("0100007F:1F82", "0A")}  # 127.0.0.1:8066
        assert opening.ask("/", headers=SIGN_IN).status == 403
        welcome = opening.sign_in()
        assert (welcome.status, welcome.all("location")) == (303, ["/"])
        cookies = welcome.all("set-cookie")
        assert set(opening.cookies) == {"MMAUTHTOKEN", "MMUSERID", "MMCSRF"}
        assert ["HttpOnly" in cookie for cookie in cookies] == [True, False, False]
        assert opening.api("/users/me").document["username"] == "bob"
        token = dict(opening.cookies)
        opening.cookies = {}
        for user in ("root", "nobody"):
            again = opening.ask(f"/{opening.key}", user=user)
            assert (again.status, again.all("set-cookie")) == (403, [])
        for cookie in ({}, {**token, "MMAUTHTOKEN": "x" * 26}, {"MMUSERID": token["MMUSERID"]}):
            opening.cookies = cookie
            assert opening.api("/users/me").status == 403
        opening.cookies = token
        assert opening.api("/users/me").status == 200
        assert opening.close()[0] == 0
    assert listening(place.lab) == before


def test_another_account_of_the_host_sees_nothing(place: House) -> None:
    alice = place.gitlab.sign_in("alice")
    with opened(place.lab) as opening:
        for path in (
            "/",
            "/api/v4/system/ping",
            "/static/main.js",
            f"/{opening.key}x",
            "/x" * 5000,
        ):
            reply = opening.ask(path, user="nobody")
            assert reply.status == 403, path
            assert not {"mattermost", "alice", Path(place.set).name} & set(
                reply.text.lower().split()
            )
        bearer = {"Authorization": f"Bearer {alice.token}"}  # of a session that the set has
        assert opening.ask("/api/v4/users/me", headers=bearer, user="nobody").status == 403
        opening.cookies = {"MMAUTHTOKEN": alice.token}
        assert opening.api("/users/me").status == 403
        secrets = json.dumps([opening.key, *opening.cookies.values()])
        opening.cookies = {}
        opening.sign_in()
        secrets = json.dumps([opening.key, opening.cookies["MMAUTHTOKEN"]])
        assert json.loads(place.lab.run(PYTHON, "-c", SEARCH, input=secrets).stdout) == []
        inner = place.lab.run("pgrep", "-f", f"{PROGRAM} --config /run").stdout.split()
        assert inner
        joining = ("nsenter", "--net", "--target", inner[0], "true")
        assert place.lab.run(*joining, user="nobody", check=False).returncode != 0


ODD = {
    "no request": b"\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "a folded line": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n x: y\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "another host": b"GET /{key} HTTP/1.1\r\nHost: evil.example:8066\r\n\r\n",
    "another host that begins alike": b"GET /{key} HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n",
    "a page of another site": b"GET /{key} HTTP/1.1\r\nHost: 127.0.0.1:8066\r\n"
    b"Origin: http://evil.example\r\n\r\n",
    "a page of another port": b"GET /{key} HTTP/1.1\r\nHost: 127.0.0.1:8066\r\n"
    b"Origin: http://127.0.0.1:3000\r\n\r\n",
    "a body of unknown length": b"POST /api/v4/posts HTTP/1.1\r\nHost: 127.0.0.1:8066\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "the key by another method": b"POST /{key} HTTP/1.1\r\nHost: 127.0.0.1:8066\r\n\r\n",
    "a head without end": b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8066\r\nX: " + b"x" * 200000,
}


def test_odd_requests_get_no_further(place: House) -> None:
    with opened(place.lab) as opening:
        for name, content in ODD.items():
            answer = opening.raw(content.replace(b"{key}", opening.key.encode()), user="nobody")
            assert not answer or answer.split()[1] in (b"400", b"403", b"431"), name
            assert b"Set-Cookie" not in answer, name
        assert opening.sign_in().status == 303
        origin = {"Origin": "http://localhost:9000", "Host": "localhost:9000"}  # by ssh -L
        assert opening.ask("/api/v4/users/me", headers=origin).status == 200
        evil = {"Origin": "http://evil.example"}
        assert opening.ask("/api/v4/users/me", headers=evil).status == 403
        # What comes with the cookie alone is no request of Mattermost's page.
        channel = rows(place, "SELECT id FROM channels LIMIT 1")[0]
        body = json.dumps({"channel_id": channel, "message": "forged"}).encode()
        assert opening.ask("/api/v4/posts", "POST", {}, body).status == 401


def test_a_banner_on_each_page_and_nothing_from_elsewhere(place: House) -> None:
    made = "-".join(Path(place.set).name.split("_")[1:4])
    with opened(place.lab) as opening:
        assert f"State of {made}" in "\n".join(opening.said)
        opening.sign_in()
        kept = {"If-Modified-Since": "Sat, 28 Nov 2026 00:00:00 GMT", "Accept-Encoding": "gzip"}
        for path in ("/", "/engineering/channels/releases?x=1"):
            reply = opening.ask(path, headers={**SIGN_IN, **kept})
            assert reply.status == 200
            assert re.search(
                rf"<body><div [^>]*>State of {made} [^<]*Nothing you change is kept\.</div>",
                reply.text,
            )
            assert int(reply.all("content-length")[0]) == len(reply.body)
            assert reply.all("cache-control") == ["no-store"]
            assert reply.all("content-security-policy")[0].startswith("frame-ancestors 'self'")
            assert "default-src 'self'" in reply.all("content-security-policy")[1]
        (file,) = rows(place, "SELECT id FROM fileinfo WHERE name = 'diagram (1).png'")
        (path,) = rows(place, f"SELECT path FROM fileinfo WHERE id = '{file}'")
        content = place.lab.path(f"{HOME}/data/{path}").read_bytes()
        assert opening.ask(f"/api/v4/files/{file}", headers=SIGN_IN).body == content


def test_ordinary_users_read_and_administrators_change_what_is_not_kept(place: House) -> None:
    post = {"channel_id": place.seed.channels["releases"], "message": "written while open"}
    before = place.gitlab.state()
    with opened(place.lab, "--as", "@Bob") as opening:
        opening.sign_in()
        posts = opening.api(f"/channels/{post['channel_id']}/posts").document["posts"]
        texts = {posted["message"] for posted in posts.values()}
        assert texts <= set(place.seed.posts.values()) and len(texts) > 3
        assert opening.api("/posts", "POST", post).status == 403
        assert opening.api("/teams", "POST", {"name": "x", "display_name": "x"}).status == 403
    with opened(place.lab) as opening:
        assert " as root." in "\n".join(opening.said)
        opening.sign_in()
        written = opening.api("/posts", "POST", post)
        assert written.status == 201
        assert opening.api(f"/posts/{written.document['id']}").status == 200
    place.expect_nothing_left()
    assert before.differences(place.gitlab.state()) == []


def test_the_websocket_passes(place: House) -> None:
    def connect(opening: Opening, **more: str) -> bytes:
        fields = {**WEBSOCKET, "Host": f"127.0.0.1:{PORT}", **more}
        fields["Cookie"] = f"MMAUTHTOKEN={opening.cookies['MMAUTHTOKEN']}"
        lines = [
            "GET /api/v4/websocket HTTP/1.1",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        action = json.dumps({"seq": 1, "action": "ping"}).encode()
        frame = bytes([0x81, 0x80 | len(action), 0, 0, 0, 0]) + action
        return opening.raw("\r\n".join([*lines, "", ""]).encode() + frame + b"\x88\x80\0\0\0\0")

    with opened(place.lab) as opening:
        opening.sign_in()
        for origin in (f"http://127.0.0.1:{PORT}", "http://localhost:9000"):
            answer = connect(opening, Origin=origin, Host=origin.partition("//")[2])
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert b'"event": "hello"' in answer and b'"seq_reply": 1' in answer
        assert connect(opening, Origin="http://evil.example").startswith(b"HTTP/1.1 403 ")


def test_nothing_live_is_touched_and_nothing_leaves(place: House) -> None:
    config = place.gitlab.config()
    mail = {"SendEmailNotifications": True, "SMTPServer": "127.0.0.1", "SMTPPort": "2525"}
    config["EmailSettings"].update(mail)
    before = place.lab.read(f"{HOME}/config.json")
    place.lab.write(f"{HOME}/config.json", json.dumps(config), mode=0o600, owner="mattermost")
    quiet = packets(place)
    place.gitlab.restart_mattermost()
    assert packets(place) != quiet
    path = place.product.backup()
    still = live(place)
    with opened(place.lab, path) as opening:
        during = live(place)
        assert opening.close()[0] == 0
    after = live(place)
    for seen in (during, after):
        assert still["state"].differences(seen.pop("state")) == []
    state = still.pop("state")
    assert still == after
    assert (during["packets"], during["databases"]) == (still["packets"], still["databases"])
    assert state.tables
    place.lab.write(f"{HOME}/config.json", before, mode=0o600, owner="mattermost")
    place.lab.run("rm", "-r", path)


ENDINGS = {
    signal.SIGINT: (0, "SIGINT"),
    signal.SIGTERM: (0, "SIGTERM"),
    signal.SIGHUP: (0, "SIGHUP"),
    signal.SIGKILL: (-9, None),
}


@pytest.mark.parametrize("number", ENDINGS)
def test_a_signal_closes_it_and_nothing_is_left(place: House, number: int) -> None:
    code, reason = ENDINGS[signal.Signals(number)]
    before = listening(place.lab)
    with opened(place.lab, "--json") as opening:
        opening.sign_in()
        ended, out, err = opening.close(number)
        document = json.loads(out) if out else {}
        assert (ended, document.get("closed_by")) == (code, reason), err
        assert opening.key not in out
    place.expect_nothing_left()
    assert listening(place.lab) == before


def test_its_time_is_limited(place: House) -> None:
    with opened(place.lab, "--for", "2s", "--json") as opening:
        assert opening.sign_in().status == 303
        code, out, _ = opening.ended()
        document = json.loads(out)
        assert (code, document["closed_by"]) == (0, "time limit")
        assert (document["set"], document["user"], document["port"]) == (
            Path(place.set).name,
            "root",
            PORT,
        )
    place.expect_nothing_left()


def test_a_closed_terminal_closes_it(place: House) -> None:
    done = place.lab.run(PYTHON, "-c", TERMINAL, "gitlab-mm", "open", timeout=60)
    assert len(done.stdout.splitlines()) == 2
    place.expect_nothing_left()


def test_nobody_left_who_reads_its_output_closes_it(place: House) -> None:
    """As when ssh without a terminal ends: there is no signal then."""
    place.lab.run("sh", "-c", "gitlab-mm open | grep -m1 closes", timeout=60)
    place.expect_nothing_left()


def test_a_mattermost_that_ends_by_itself_is_a_failure(place: House) -> None:
    with opened(place.lab, "--json") as opening:
        place.lab.run("pkill", "-KILL", "-u", "gitlab-mm", "-f", PROGRAM)
        code, out, _ = opening.ended()
        assert code == 1
        assert "Mattermost ended with exit code" in json.loads(out)["error"]["message"]
    place.expect_nothing_left()


def test_an_interruption_before_it_is_open(place: House) -> None:
    fault = environment(Fault("rehearsal.boot:_first_answer", act="SIGINT"))
    done = place.lab.run("gitlab-mm", "open", "--json", env=fault, check=False)
    document = json.loads(done.stdout)
    assert (done.returncode, document["error"]["message"]) == (1, "Interrupted by SIGINT")
    place.expect_nothing_left()


def refused(place: House, *words: str) -> tuple[int, dict[str, Any]]:
    answer = place.product("open", *words)
    place.expect_nothing_left()
    return answer.code, answer.error


def test_what_cannot_be_opened(place: House) -> None:
    code, error = refused(place, "--as", "nobody\x1b[31m")
    assert (code, error["message"]) == (2, r"The set has no user nobody\x1b[31m"), error
    assert "gitlab-mm ls" in error["hint"]
    place.lab.run("mv", PROGRAM, f"{PROGRAM}.away")
    code, error = refused(place)
    place.lab.run("mv", f"{PROGRAM}.away", PROGRAM)
    assert (code, error["detail"]) == (1, f"this host has no {PROGRAM}")
    older = forge(place.lab, place.set, manifest={"mattermost": "10.5.0"})
    code, error = refused(place, older)
    assert code == 1 and "the set is of Mattermost 10.5.0, this host has" in error["detail"]
    assert "gitlab-mm ls, find and extract" in error["hint"]
    damaged = copied(place.lab, place.set)
    file = place.lab.path(f"{damaged}/files.tar.zst")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    code, error = refused(place, damaged)
    assert code == 1 and "checksums: " in error["detail"] and "files.tar.zst" in error["detail"]


def test_whoever_cannot_sign_in(place: House) -> None:
    place.gitlab.sql("UPDATE users SET deleteat = 1 WHERE username <> 'bob'")
    place.gitlab.sql(
        "INSERT INTO bots (userid, createat, updateat, deleteat)"
        " SELECT id, 1, 1, 0 FROM users WHERE username = 'bob'"
    )
    place.gitlab.sql(  # its id would add a header to a response
        "INSERT INTO users (id, createat, updateat, deleteat, username, email, roles)"
        r" VALUES (E'x\r\nSet-Cookie: a=b', 1, 1, 0, 'mallory', 'm@example.test', 'system_user')"
    )
    path = str(place.product("backup").document["path"])  # it looks emptied
    place.gitlab.sql("UPDATE users SET deleteat = 0; DELETE FROM bots")
    place.gitlab.sql("DELETE FROM users WHERE username = 'mallory'")
    code, error = refused(place, path, "--as", "alice")
    assert (code, error["detail"]) == (2, "the account is deactivated")
    code, error = refused(place, path, "--as", "bob")
    assert (code, error["detail"]) == (2, "the account is a bot")
    code, error = refused(place, path, "--as", "mallory")
    assert (code, error["detail"]) == (2, "the account has no valid id")
    code, error = refused(place, path)
    assert code == 1 and "no active system administrator" in error["message"]
    place.lab.run("rm", "-r", path)


@pytest.mark.parametrize(
    "words",
    [("--for", "0"), ("--for", "soon"), ("--for", "-1h"), ("--port", "0"), ("--port", "70000")],
)
def test_options_that_are_none(place: House, words: tuple[str, str]) -> None:
    done = place.product.run("open", *words)
    assert done.returncode == 2
    assert words[0] in done.stderr


def test_one_at_a_time_and_a_port_that_is_free(place: House) -> None:
    live_port = "8065"
    code, error = refused(place, "--port", live_port)
    assert (code, error["detail"]) == (2, "Address already in use")
    assert "--port" in error["hint"]
    with opened(place.lab) as opening:
        second = place.product("open", "--port", "8077")
        assert (second.code, second.error["message"]) == (3, "Another set is open")
        assert place.rehearse("--quick").code == 0
        assert opening.close()[0] == 0
    with opened(place.lab, port=8077) as opening:  # the port can be used again at once
        assert opening.sign_in().status == 303
        opening.close()
    with opened(place.lab, port=8077) as opening:
        assert opening.sign_in().status == 303


def test_no_room_on_the_disk(place: House) -> None:
    place.lab.run("mkdir", "-p", "/mnt/small")
    place.lab.run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/mnt/small")
    place.lab.write("/root/small.yml", "scratch_dir: /mnt/small\n")
    answer = place.product("open", "--config", "/root/small.yml")
    place.lab.run("umount", "/mnt/small")
    assert (answer.code, answer.error["message"]) == (1, "Not enough disk space for opening a set")


# Asks the database of the Mattermost that is open, as Mattermost itself connects to it.
SQL = """
import glob, os, re, subprocess, sys
from urllib.parse import unquote, urlsplit
pid = subprocess.run(["pgrep", "-u", "gitlab-mm", "-f", sys.argv[1]], capture_output=True, text=True).stdout.split()[0]
pairs = dict(word.split("=", 1) for word in open(f"/proc/{pid}/environ").read().split(chr(0)) if "=" in word)
source = urlsplit(pairs["MM_SQLSETTINGS_DATASOURCE"])
(folder,) = glob.glob("/run/gitlab-mm-rehearsal-*")
where = ["-h", folder, "-U", unquote(source.username), "-d", source.path[1:], "-Atqc", sys.argv[2]]
password = {**os.environ, "PGPASSWORD": unquote(source.password)}
sys.exit(subprocess.run(["/opt/gitlab/embedded/bin/psql", *where], env=password).returncode)
"""


def scratch(place: House, statement: str) -> list[str]:
    """Rows in the database of the Mattermost that is open."""
    return place.lab.run(PYTHON, "-c", SQL, PROGRAM, statement).stdout.splitlines()


def test_the_search_is_built_when_asked_for(place: House) -> None:
    for words, expected in (((), []), (("--search",), ["idx_posts_message_txt"])):
        with opened(place.lab, *words):
            asked = "SELECT indexname FROM pg_indexes WHERE indexname = 'idx_posts_message_txt'"
            assert scratch(place, asked) == expected
            assert scratch(place, "SELECT count(*), min(expiresat) FROM sessions") == ["1|0"]


# What the page of the banner says: its text, whether all of it is visible, and what can be read of the cookies.
LOOK = """
(() => {
  const banner = document.querySelector("body > div[role=status]");
  const box = banner.getBoundingClientRect();
  return {
    text: banner.textContent,
    visible: box.height > 0 && box.bottom <= innerHeight && box.right <= innerWidth,
    cookies: document.cookie.split("; ").map((pair) => pair.split("=")[0]).sort(),
    at: location.pathname,
  };
})()
"""
# A picture of another host, and the websocket; both tell how it went.
REACH = """
globalThis.told = {};
document.addEventListener("securitypolicyviolation", (event) => { told.blocked = event.blockedURI; });
document.body.append(Object.assign(new Image(), {src: "http://192.0.2.1/x.png"}));
const socket = new WebSocket("ws://127.0.0.1:8066/api/v4/websocket");
socket.onmessage = (event) => { told.event = JSON.parse(event.data).event; };
"""


def test_a_real_browser_shows_it(place: House) -> None:
    network = ("nsenter", f"--net=/proc/{place.lab.pid}/ns/net", "--")
    with opened(place.lab) as opening, chromium(*network) as browser:
        for width in (375, 1280):
            browser.open(opening.address if width == 375 else f"{opening.address[:21]}/", width)
            seen = browser.value(LOOK)
            assert "Nothing you change is kept." in seen.pop("text")
            assert seen == {"visible": True, "cookies": ["MMCSRF", "MMUSERID"], "at": "/"}
            browser.value("document.body.style.background = 'white'")  # for the rest of the page
            assert min(browser.value(CONTRASTS).values()) >= 4.5
        browser.value(REACH)
        wait_until(lambda: len(browser.value("told")) == 2, 20, "both")
        assert browser.value("told") == {"blocked": "http://192.0.2.1/x.png", "event": "hello"}
        browser.open(opening.address)  # once more, which is no harm in this browser
        assert browser.value("location.pathname") == "/"
    with opened(place.lab) as opening, chromium(*network) as browser:
        opening.sign_in()
        browser.open(opening.address)
        assert "works once" in browser.value("document.body.textContent")
        assert browser.value("document.cookie") == ""


def test_below_a_path_and_with_settings_that_get_in_the_way(base: Path, deb: Path) -> None:
    """The path of SiteURL stays; it is no reason that browsers are asked for more, or told another address."""
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec(site_url="http://mattermost.example.test/chat"))
        product = install_product(lab, deb)
        gitlab.seed()
        config = gitlab.config()
        config["ServiceSettings"].update(
            AllowCorsFrom="http://other.example.test",
            WebsocketURL="ws://mattermost.example.test/chat",
            EnforceMultifactorAuthentication=True,
        )
        lab.write(f"{HOME}/config.json", json.dumps(config), mode=0o600, owner="mattermost")
        product.backup()
        with opened(lab) as opening:
            assert opening.sign_in().all("location") == ["/chat/"]
            assert opening.ask("/chat/api/v4/users/me").document["username"] == "root"
            told = opening.ask("/chat/api/v4/config/client?format=old").document
            assert told["SiteURL"] == f"http://127.0.0.1:{PORT}/chat"
            assert "is kept" in opening.ask("/chat/engineering", headers=SIGN_IN).text
            origin = {**WEBSOCKET, "Origin": f"http://127.0.0.1:{PORT}", "Cookie": opening.cookie}
            lines = [f"{name}: {value}" for name, value in origin.items()]
            head = [f"GET /chat/api/v4/websocket HTTP/1.1\r\nHost: 127.0.0.1:{PORT}", *lines]
            close = b"\x88\x80\0\0\0\0"
            answer = opening.raw("\r\n".join([*head, "", ""]).encode() + close)
            assert answer.startswith(b"HTTP/1.1 101 ")


def test_a_mattermost_without_roles_is_told(base: Path, deb: Path) -> None:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec(version="10.5.8"))
        product = install_product(lab, deb)
        seed = gitlab.seed()
        product.backup()
        post = {"channel_id": seed.channels["releases"], "message": "written while open"}
        with opened(lab, "--as", "bob", "--json") as opening:
            assert any("Messages can be written" in line for line in opening.said)
            opening.sign_in()
            assert opening.api("/users/me").document["username"] == "bob"
            assert opening.api("/posts", "POST", post).status == 201
            code, out, _ = opening.close()
        assert code == 4
        assert "Messages can be written" in json.loads(out)["warnings"][0]
        assert gitlab.sql("SELECT count(*) FROM posts WHERE message = 'written while open'") == [
            "0"
        ]
