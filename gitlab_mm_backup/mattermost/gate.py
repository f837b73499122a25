"""The gate before an opened Mattermost: HTTP on this host's loopback, for one browser.

Every account of a host can connect to its loopback, so only requests with the session's cookie are
passed on. The cookie is given once, to the first who asks for the one-time address. Pages of other
sites cannot use it: Host and Origin must name this host.
"""

from __future__ import annotations

import contextlib
import hmac
import html
import os
import re
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from ..errors import ExitCode, Failure
from ..system.redaction import Secret
from .listener import Listener

HOST = "127.0.0.1"
SESSION_COOKIE = "MMAUTHTOKEN"  # these three as in model/session.go of Mattermost
USER_COOKIE, CSRF_COOKIE = "MMUSERID", "MMCSRF"
_HOSTS = (HOST, "localhost", "[::1]")  # with any port: ssh -L may have another one
_MOST_HEAD, _MOST_PAGE = 64 << 10, 8 << 20  # bytes
_PIECE = 64 << 10
_PATIENCE, _PAGE = 10.0, 60.0  # seconds for the head of a request, and of a page
_AT_ONCE = 128  # connections
# One request for each connection (HTTP/1.0): the end of the connection ends the body.
_HOP = ("connection", "keep-alive", "proxy-connection", "expect", "host", "origin")
_ENCODED = ("accept-encoding", "if-none-match", "if-modified-since")  # not for pages with a banner
_REPLACED = ("content-length", "cache-control", "etag", "last-modified")
# Below the links of pages, which the browser would otherwise load from other hosts.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws://{};"
    " frame-ancestors 'none'"
)
_BANNER = (
    '<div role="status" style="position:fixed;left:0;right:0;bottom:0;z-index:2147483647;'
    "padding:4px 12px;background:#8a1f11;color:#fff;font:600 13px/1.4 sans-serif;"
    'text-align:center;pointer-events:none">{}</div>'
)
_CLOSED = (
    "<!DOCTYPE html><html lang='en'><meta charset='utf-8'><title>gitlab-mm open</title>"
    "<p>Not allowed. The address that gitlab-mm open prints works once, in one browser. "
    "For a new one, end gitlab-mm open and start it again.</p></html>"
)


@dataclass(frozen=True)
class Visit:
    """What the gate lets a browser see."""

    key: Secret  # path of the one-time address, without the slash
    cookies: Mapping[str, Secret]  # of the session
    banner: str
    inner: Listener  # Mattermost, in the network of the threads that serve


class _Refused(Exception):
    """A request that is not passed on."""

    def __init__(self, status: HTTPStatus = HTTPStatus.FORBIDDEN) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class _Head:
    """The head of a request or response (RFC 9112, 2.1)."""

    first: str
    fields: list[tuple[str, str]]

    def get(self, name: str) -> str:
        return next((value for field, value in self.fields if field.lower() == name), "")

    def without(self, *names: str) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.fields if name.lower() not in names]

    def encoded(self) -> bytes:
        lines = [self.first, *(f"{name}: {value}" for name, value in self.fields)]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


@contextlib.contextmanager
def bound(port: int) -> Iterator[socket.socket]:
    """Listen on this host's loopback for the block; raises Failure where the port is taken."""
    try:
        listener = socket.create_server((HOST, port), backlog=_AT_ONCE)
    except OSError as error:
        raise Failure(
            f"Port {port} of {HOST} cannot be used",
            os.strerror(error.errno or 0),  # Python adds the address to its own
            "Give another one: --port.",
            ExitCode.USAGE,
        ) from error
    with listener:
        try:
            yield listener
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # ends accept(2) in the serving thread


class Gate:
    """Serves one visit on a listening socket."""

    def __init__(self, listener: socket.socket, visit: Visit) -> None:
        self._listener, self._visit = listener, visit
        self._place = "{}:{}".format(*listener.getsockname())
        self._key_unused = threading.Lock()  # never released: whoever takes it has the cookie
        self._room = threading.BoundedSemaphore(_AT_ONCE)

    @property
    def url(self) -> str:
        """The address of Mattermost, without a slash at its end."""
        return f"http://{self._place}{self._visit.inner.below}"

    def serve(self) -> None:
        """Serve until the listening socket is shut down.

        Connections to Mattermost are made in the network namespace of the calling thread; the
        listening socket stays in the one where it was made (network_namespaces(7)).
        """
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._room.acquire(blocking=False):
                client.close()
                continue
            threading.Thread(target=self._serve_one, args=(client,), daemon=True).start()

    def _serve_one(self, client: socket.socket) -> None:
        try:
            with client:
                self._answer(client)
        except OSError:
            pass  # one side has closed the connection
        finally:
            self._room.release()

    def _answer(self, client: socket.socket) -> None:
        try:
            head, rest = _read_head(client, _PATIENCE)
            method, target = self._judged(head)
            known = self._has_session(head)
            if self._is_address(method, target) and (known or self._is_first()):
                client.sendall(self._welcome())
            elif known:
                self._pass_on(client, head, rest)
            else:
                raise _Refused
        except _Refused as refused:
            client.sendall(_whole(refused.status, [], _CLOSED.encode()))

    def _judged(self, head: _Head) -> tuple[str, str]:
        """Return method and target of a request that names this host."""
        words = head.first.split(" ")
        if len(words) != 3 or not words[1].startswith("/") or head.get("transfer-encoding"):
            raise _Refused(HTTPStatus.BAD_REQUEST)
        host, origin = head.get("host"), head.get("origin")
        if not re.fullmatch(rf"(?:{'|'.join(map(re.escape, _HOSTS))})(?::\d{{1,5}})?", host):
            raise _Refused
        if origin not in ("", f"http://{host}"):
            raise _Refused
        return words[0], words[1]

    def _is_address(self, method: str, target: str) -> bool:
        key = self._visit.key.encoded()
        return method == "GET" and hmac.compare_digest(target[1:].encode("latin-1"), key)

    def _is_first(self) -> bool:
        return self._key_unused.acquire(blocking=False)

    def _has_session(self, head: _Head) -> bool:
        """Return whether the first such cookie, which Mattermost takes, is that of the session."""
        pairs = (pair.strip().partition("=") for pair in head.get("cookie").split(";"))
        given = next((value for name, _, value in pairs if name == SESSION_COOKIE), "")
        wanted = self._visit.cookies[SESSION_COOKIE].encoded()
        return hmac.compare_digest(given.encode("latin-1"), wanted)

    def _welcome(self) -> bytes:
        """Return the answer with the cookies, as AttachSessionCookies of Mattermost sets them."""
        below = self._visit.inner.below
        fields = [("Location", f"{below}/"), ("Referrer-Policy", "no-referrer")]
        for name, value in self._visit.cookies.items():
            hidden = "; HttpOnly" if name == SESSION_COOKIE else ""
            cookie = f"{name}={value.reveal()}; Path={below or '/'}; SameSite=Lax{hidden}"
            fields.append(("Set-Cookie", cookie))
        return _whole(HTTPStatus.SEE_OTHER, fields, b"")

    def _pass_on(self, client: socket.socket, head: _Head, rest: bytes) -> None:
        inner, page = self._visit.inner, self._wants_page(head)
        with socket.create_connection((inner.host, inner.port), _PATIENCE) as there:
            there.settimeout(None)
            client.settimeout(None)
            there.sendall(self._towards(head, page=page).encoded() + rest)
            if page:
                self._send_page(client, there, head.get("host"))
            _relay(client, there)

    def _wants_page(self, head: _Head) -> bool:
        """Return whether a browser asks for a page, and not a program for data."""
        method, target, _ = head.first.split(" ")
        api = f"{self._visit.inner.below}/api/"
        return method == "GET" and "text/html" in head.get("accept") and not target.startswith(api)

    def _towards(self, head: _Head, *, page: bool) -> _Head:
        """Return the request as Mattermost gets it: sent to SiteURL, alone on its connection."""
        method, target, _ = head.first.split(" ")
        upgrade = head.get("upgrade").lower() == "websocket"
        fields = head.without(*_HOP, *(_ENCODED if page else ()))
        fields.append(("Host", self._place))
        fields.append(("Connection", "Upgrade" if upgrade else "close"))
        if head.get("origin"):
            fields.append(("Origin", f"http://{self._place}"))
        return _Head(f"{method} {target} HTTP/1.{1 if upgrade else 0}", fields)

    def _send_page(self, client: socket.socket, there: socket.socket, host: str) -> None:
        """Send the head of an answer; of a page all, with the banner and limits for the browser."""
        head, rest = _read_head(there, _PAGE)
        if "text/html" not in head.get("content-type") or head.get("content-disposition"):
            client.sendall(head.encoded() + rest)
            return
        body = bytearray(rest)
        while piece := there.recv(_PIECE):
            body += piece
            if len(body) > _MOST_PAGE:
                raise _Refused(HTTPStatus.BAD_GATEWAY)
        shown = _with_banner(bytes(body), self._visit.banner)
        fields = head.without(*_REPLACED)
        fields.append(("Content-Security-Policy", _POLICY.format(host)))
        fields.append(("Cache-Control", "no-store"))
        fields.append(("Content-Length", str(len(shown))))
        client.sendall(_Head(head.first, fields).encoded() + shown)


def _read_head(stream: socket.socket, seconds: float) -> tuple[_Head, bytes]:
    """Return the head of a message, and what came after it; raises OSError at its early end."""
    deadline, found = time.monotonic() + seconds, bytearray()
    while b"\r\n\r\n" not in found:
        stream.settimeout(max(0.01, deadline - time.monotonic()))
        piece = stream.recv(_PIECE)
        found += piece
        if not piece:
            raise ConnectionError
        if len(found) > _MOST_HEAD + _PIECE:
            raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    stream.settimeout(None)
    text, _, rest = bytes(found).partition(b"\r\n\r\n")
    first, *lines = text.decode("latin-1").split("\r\n")
    pairs = [
        re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", line) for line in lines
    ]
    if not all(pairs):
        raise _Refused(HTTPStatus.BAD_REQUEST)
    return _Head(first, [(pair[1], pair[2]) for pair in pairs if pair]), rest


def _relay(client: socket.socket, there: socket.socket) -> None:
    """Pass bytes both ways until one side closes."""
    other = {client.fileno(): there, there.fileno(): client}
    while True:
        ready, _, _ = select.select([client, there], [], [])
        for source in ready:
            piece = source.recv(_PIECE)
            if not piece:
                return
            other[source.fileno()].sendall(piece)


def _with_banner(page: bytes, text: str) -> bytes:
    """Return a page with a banner as the first thing in its body."""
    banner = _BANNER.format(html.escape(text)).encode()
    start = re.search(rb"<body\b[^>]*>", page, re.I)
    at = start.end() if start else len(page)
    return page[:at] + banner + page[at:]


def _whole(status: HTTPStatus, fields: list[tuple[str, str]], body: bytes) -> bytes:
    """Return a response of our own."""
    always = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
    ]
    first = f"HTTP/1.1 {status.value} {status.phrase}"
    return _Head(first, [*fields, *always]).encoded() + body
