"""The lab's browser and API client: answers one JSON request from stdin with one JSON object on stdout.

Requests: {"action": "sign_in", "site", "gitlab", "username"} -> {"token", "user_id"} or {"status", "url", "error"};
{"action": "log_in", "site", "name", "password"} -> the same;
{"action": "call", "site", "token", "method", "path", "json", "file" or "raw"} -> {"status", "body"}, bytes in Base64;
{"action": "wait", "urls", "seconds"} -> {"late": addresses that did not answer with 200 in time, with the reason}.
"""

from __future__ import annotations

import base64
import html
import http.client
import json
import re
import secrets
import sys
import time
import urllib.error
import urllib.request
from http.cookiejar import Cookie, CookieJar
from typing import Any
from urllib.parse import urlsplit

Answer = dict[str, Any]
DIRECT = urllib.request.ProxyHandler({})


def gitlab_cookie(gitlab: str, username: str) -> Cookie:
    """The cookie of a browser that is signed in to GitLab."""
    host = str(urlsplit(gitlab).hostname)
    return Cookie(
        0, "_gitlab_session", username, None, False, host, False, False, "/", True, False, None, True, None, None, {}
    )  # fmt: skip


def sign_in(request: Answer) -> Answer:
    """Press "GitLab" on the sign-in page and follow every redirect with one cookie jar."""
    jar = CookieJar()
    jar.set_cookie(gitlab_cookie(request["gitlab"], request["username"]))
    opener = urllib.request.build_opener(DIRECT, urllib.request.HTTPCookieProcessor(jar))
    try:
        with opener.open(f"{request['site']}/oauth/gitlab/login", timeout=20) as page:
            status, url, body = page.status, page.url, page.read()
    except urllib.error.HTTPError as error:
        status, url, body = error.code, error.url, error.read()
    except OSError as error:
        return {"status": 0, "url": request["site"], "error": str(error)}
    cookies = {cookie.name: cookie.value for cookie in jar}
    if "MMAUTHTOKEN" in cookies:
        return {"token": cookies["MMAUTHTOKEN"], "user_id": cookies["MMUSERID"]}
    return {"status": status, "url": url.partition("?")[0], "error": page_text(body)}


def log_in(request: Answer) -> Answer:
    """Sign in with a password, as Mattermost's page does."""
    document = {"login_id": request["name"], "password": request["password"]}
    url = f"{request['site']}/api/v4/users/login"
    try:
        with urllib.request.build_opener(DIRECT).open(
            url, json.dumps(document).encode(), timeout=20
        ) as page:
            return {"token": page.headers["Token"], "user_id": json.load(page)["id"]}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "url": url, "error": error.read().decode(errors="replace")}


def page_text(body: bytes) -> str:
    """Title and text of a page."""
    found = re.findall(r"<(?:h1|p)>(.*?)</(?:h1|p)>", body.decode(errors="replace"), re.DOTALL)
    return ": ".join(html.unescape(text).strip() for text in found if text.strip())


def multipart(
    name: str, content: bytes, channel: str, text: str = "channel_id", field: str = "files"
) -> tuple[bytes, str]:
    """Body and content type of a form with a text, such as the channel of an upload, and a file."""
    boundary = secrets.token_hex(16)
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{text}"\r\n\r\n{channel}\r\n--{boundary}\r\n'
    head += f'Content-Disposition: form-data; name="{field}"; filename="{quoted}"\r\n\r\n'
    return (
        head.encode() + content + f"\r\n--{boundary}--\r\n".encode(),
        f"multipart/form-data; boundary={boundary}",
    )


def send(
    site: str, token: str, method: str, path: str, body: bytes | None = None, kind: str = ""
) -> tuple[int, bytes]:
    """One API call; status 0 means no answer, with the reason as body."""
    headers = {"Authorization": f"Bearer {token}", **({"Content-Type": kind} if kind else {})}
    request = urllib.request.Request(f"{site}/api/v4{path}", body, headers, method=method)
    try:
        with urllib.request.build_opener(DIRECT).open(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error).encode()


def call(request: Answer) -> Answer:
    """An API call as the outside asks for it."""
    body, kind = None, ""
    if "json" in request:
        body, kind = json.dumps(request["json"]).encode(), "application/json"
    if "file" in request:
        file = request["file"]
        content = base64.b64decode(file["content"])
        if "emoji" in file:
            body, kind = multipart(file["name"], content, file["emoji"], "emoji", "image")
        else:
            body, kind = multipart(file["name"], content, file["channel"])
    if "raw" in request:
        body, kind = base64.b64decode(request["raw"]), "application/octet-stream"
    status, answer = send(
        request["site"], request["token"], request["method"], request["path"], body, kind
    )
    return {"status": status, "body": base64.b64encode(answer).decode()}


def wait(request: Answer) -> Answer:
    """Ask until every address answers with 200, or the time is over."""
    end, late = (
        time.monotonic() + request["seconds"],
        dict.fromkeys(request["urls"], "not asked yet"),
    )
    while late:
        for url in list(late):
            try:
                with urllib.request.build_opener(DIRECT).open(url, timeout=5):
                    del late[url]
            except (OSError, http.client.HTTPException) as error:
                late[url] = str(error)
        if time.monotonic() > end:
            break
        if late:
            time.sleep(0.05)
    return {"late": late}


def main() -> int:
    """Answer stdin."""
    request = json.load(sys.stdin)
    actions = {"sign_in": sign_in, "log_in": log_in, "call": call, "wait": wait}
    json.dump(actions[request["action"]](request), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
