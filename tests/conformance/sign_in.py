"""Signing in by GitLab, and sessions."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.conformance.subject import Answer, Server, Subject, refuses
from tests.conformance.uploads import session

START = "/oauth/gitlab/login"
END = "/signup/gitlab/complete"
ME = "/api/v4/users/me"
TOKEN, CSRF = "c" * 26, "d" * 26


def _begun(server: Server) -> tuple[dict[str, str], str]:
    """Begin to sign in; give the parameters for GitLab and the cookie."""
    answer = server.get(START)
    assert answer.status == 302, answer
    asked = parse_qs(urlsplit(answer.header("location")).query)
    cookie = answer.cookies["MMOAUTH"].partition(";")[0]
    return {name: values[0] for name, values in asked.items()}, cookie


def _ended(server: Server, cookie: str = "", **parameters: str) -> Answer:
    options = ("--header", f"Cookie: {cookie}") if cookie else ()
    return server.get(f"{END}?{urlencode(parameters)}", *options)


def begins_at_gitlab(subject: Subject) -> None:
    """It leads to GitLab with id, address and state; a cookie binds the state to the browser."""
    server = subject.usual
    answer = server.get(START)
    assert answer.status == 302
    where = urlsplit(answer.header("location"))
    settings = server.environment
    assert (
        f"{where.scheme}://{where.netloc}{where.path}" == settings["MM_GITLABSETTINGS_AUTHENDPOINT"]
    )
    asked = parse_qs(where.query)
    assert set(asked) == {"response_type", "client_id", "redirect_uri", "state"}
    assert asked["response_type"] == ["code"]
    assert asked["client_id"] == [settings["MM_GITLABSETTINGS_ID"]]
    assert asked["redirect_uri"] == [settings["MM_SERVICESETTINGS_SITEURL"] + END]
    state = json.loads(base64.b64decode(asked["state"][0]))
    assert state["action"] == "login"
    cookie = answer.cookies["MMOAUTH"]
    assert "; HttpOnly" in cookie and "; Path=/;" in cookie and "; Max-Age=1800" in cookie
    row = subject.sql(f"SELECT type, extra FROM tokens WHERE token = '{state['token']}'")
    assert row == [f"oauth|:login:{cookie.partition(';')[0].partition('=')[2]}"]


def ends_with_a_session(subject: Subject) -> None:
    """GitLab's code becomes an account of GitLab's user id, and a session in cookies."""
    session(subject)
    server = subject.usual
    asked, cookie = _begun(server)
    gitlab = server.environment["MM_GITLABSETTINGS_AUTHENDPOINT"]
    known = ("--header", "Cookie: _gitlab_session=bob")
    granted = server.get(f"?{urlencode(asked)}", *known, url=gitlab)
    back = granted.header("location")
    answer = server.get("", "--header", f"Cookie: {cookie}", url=back)
    assert answer.status == 307, answer
    assert answer.header("location") == server.environment["MM_SERVICESETTINGS_SITEURL"]
    cookies = answer.cookies
    assert {"MMAUTHTOKEN", "MMUSERID", "MMCSRF"} <= set(cookies)
    assert "HttpOnly" in cookies["MMAUTHTOKEN"]
    assert "HttpOnly" not in cookies["MMUSERID"] + cookies["MMCSRF"]
    (row,) = subject.sql("SELECT authservice, authdata, password FROM users WHERE username = 'bob'")
    assert row == "gitlab|43|"
    token = cookies["MMAUTHTOKEN"].partition(";")[0].partition("=")[2]
    assert subject.sql(f"SELECT count(*) FROM sessions WHERE token = '{token}'") == ["1"]


def names_the_host_that_was_asked(subject: Subject) -> None:
    """GitLab refuses a code that comes back to another host than the one in SiteURL."""
    session(subject)
    server = subject.usual
    asked, cookie = _begun(server)
    gitlab = server.environment["MM_GITLABSETTINGS_AUTHENDPOINT"]
    known = ("--header", "Cookie: _gitlab_session=bob")
    granted = server.get(f"?{urlencode(asked)}", *known, url=gitlab)
    back = urlsplit(granted.header("location"))
    answer = server.get(f"{back.path}?{back.query}", "--header", f"Cookie: {cookie}")
    refuses(answer, 500)
    assert subject.usual.said.count("invalid_grant") > 0


def ends_at_an_error_page_without_a_code(subject: Subject) -> None:
    """Where GitLab's user said no, and where there is no code."""
    for parameters, kind in (
        ({"error": "access_denied"}, "oauth_access_denied"),
        ({"state": "x"}, "oauth_missing_code"),
    ):
        answer = _ended(subject.usual, **parameters)
        assert answer.status == 307, answer
        where = urlsplit(answer.header("location"))
        asked = parse_qs(where.query)
        assert (where.path, asked["type"], asked["service"]) == ("/error", [kind], ["Gitlab"])


def state_must_be_ours(subject: Subject) -> None:
    """400 for what is no state, and for one that was not given."""
    _, cookie = _begun(subject.usual)
    made_up = base64.b64encode(json.dumps({"action": "login", "token": "x" * 64}).encode()).decode()
    for state in ("", "%", made_up):
        refuses(_ended(subject.usual, cookie, code="x", state=state), 400)


def state_must_be_of_this_browser(subject: Subject) -> None:
    """400 without the cookie, and with that of another; the state stays good for its own."""
    asked, cookie = _begun(subject.usual)
    _, other = _begun(subject.usual)
    refuses(_ended(subject.usual, code="x", state=asked["state"]), 400)
    refuses(_ended(subject.usual, other, code="x", state=asked["state"]), 400)
    refuses(_ended(subject.usual, cookie, code="x", state=asked["state"]), 500)


def state_is_good_once(subject: Subject) -> None:
    """A code that GitLab refuses: 500, and 400 the next time."""
    asked, cookie = _begun(subject.usual)
    refuses(_ended(subject.usual, cookie, code="x", state=asked["state"]), 500)
    refuses(_ended(subject.usual, cookie, code="x", state=asked["state"]), 400)


def secret_that_gitlab_refuses(subject: Subject) -> None:
    """500, and the reason in the log."""
    with subject.running(environment={"MM_GITLABSETTINGS_SECRET": "no"}) as server:
        asked, cookie = _begun(server)
        refuses(_ended(server, cookie, code="x", state=asked["state"]), 500)
        assert "Bad response from token request" in server.said
        assert "invalid_client" in server.said


def sign_in_that_is_switched_off(subject: Subject) -> None:
    """501."""
    with subject.running(environment={"MM_GITLABSETTINGS_ENABLE": "false"}) as server:
        refuses(server.get(START), 501)


def session_by_hand(subject: Subject) -> None:
    """A row as `open` writes it signs in; 0 as its end is none."""
    who = session(subject)
    _put_session(subject, who.user_id)
    cookie = ("--header", f"Cookie: MMAUTHTOKEN={TOKEN}")
    answer = subject.usual.get(ME, *cookie)
    assert answer.status == 200, answer
    assert answer.document["username"] == "root"


def session_needs_its_csrf_token(subject: Subject) -> None:
    """A change by a cookie needs the token of the session, too."""
    who = session(subject)
    _put_session(subject, who.user_id)
    cookie = ("--header", f"Cookie: MMAUTHTOKEN={TOKEN}")
    message = json.dumps({"channel_id": who.channel_id(), "message": "by a cookie"})
    document = ("--header", "Content-Type: application/json", "--data", message)
    refuses(subject.usual.get("/api/v4/posts", *cookie, *document), 401)
    token = ("--header", f"X-CSRF-Token: {CSRF}")
    assert subject.usual.get("/api/v4/posts", *cookie, *token, *document).status == 201


def session_that_is_unknown(subject: Subject) -> None:
    """401 as the API says it."""
    answer = subject.usual.get(ME, "--header", f"Cookie: MMAUTHTOKEN={'z' * 26}")
    refuses(answer, 401)
    assert answer.document["id"] == "api.context.session_expired.app_error"
    assert answer.document["status_code"] == 401


def _put_session(subject: Subject, user: str) -> None:
    now = int(time.time() * 1000)
    row = {
        **{"id": "e" * 26, "token": TOKEN, "userid": user, "deviceid": "", "expiresat": 0},
        **{"createat": now, "lastactivityat": now, "roles": "system_admin system_user"},
        **{"isoauth": False, "expirednotify": False, "props": {"csrf": CSRF, "is_guest": "false"}},
    }
    subject.sql(
        f"DELETE FROM sessions WHERE token = '{TOKEN}'; INSERT INTO sessions"
        f" SELECT * FROM jsonb_populate_record(NULL::sessions, '{json.dumps(row)}'::jsonb)"
    )
