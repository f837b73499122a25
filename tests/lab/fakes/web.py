"""A small web server: an application is a function from Request to Response; routes are tried in their order."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any, Callable
from urllib.parse import parse_qsl, urlsplit

#: Where GitLab's web service listens, and nginx looks for it.
GITLAB = ("127.0.0.1", 8080)
FILE_NAME = re.compile(r'filename="((?:[^"\\]|\\.)*)"')
FIELD_NAME = re.compile(r'[; ]name="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """Parameters after the question mark."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """Parameters of a posted form."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def cookies(self) -> dict[str, str]:
        """Cookies by name."""
        return {
            name: morsel.value
            for name, morsel in SimpleCookie(self.headers.get("cookie", "")).items()
        }

    @property
    def bearer(self) -> str:
        """The token of an Authorization header, or ""."""
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        return token if kind.lower() in ("bearer", "token") else ""

    def json(self) -> dict[str, Any]:
        """The body as a JSON object."""
        document = json.loads(self.body or b"{}")
        return document if isinstance(document, dict) else {"": document}

    def parts(self) -> list[tuple[str, str | None, bytes]]:
        """Parts of a multipart/form-data body: field name, file name (or None), content."""
        boundary = self.headers["content-type"].partition("boundary=")[2].strip('"').encode()
        found = []
        for piece in (b"\r\n" + self.body).split(b"\r\n--" + boundary)[1:-1]:
            head, _, content = piece.partition(b"\r\n\r\n")
            name, file_name = FIELD_NAME.search(head.decode()), FILE_NAME.search(head.decode())
            unquoted = re.sub(r"\\(.)", r"\1", file_name.group(1)) if file_name else None
            found.append((name.group(1) if name else "", unquoted, content))
        return found


@dataclass
class Response:
    """What it is told."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/html; charset=utf-8"
    headers: list[tuple[str, str]] = field(default_factory=list)
    goes_on: Callable[[BufferedIOBase, BufferedIOBase], None] | None = (
        None  # of a switched protocol
    )

    def cookie(
        self, name: str, value: str, http_only: bool = True, age: int | None = None
    ) -> Response:
        """Add a cookie for the whole site, for ``age`` seconds; an empty value deletes it."""
        ends = f"; Max-Age={age or 0}" if age or not value else ""
        self.headers.append(
            ("Set-Cookie", f"{name}={value}; Path=/{ends}{'; HttpOnly' if http_only else ''}")
        )
        return self


Application = Callable[[Request], Response]
Handler = Callable[..., Response]


def json_response(document: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(status, json.dumps(document).encode(), "application/json")


def page(status: int, title: str, text: str = "") -> Response:
    """A page for a browser."""
    body = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>"
    return Response(status, body.encode())


def redirect(address: str, status: int = 302) -> Response:
    """Send the browser elsewhere."""
    return Response(status, headers=[("Location", address)])


class Routes:
    """Handlers by method and path pattern; named groups of the pattern become arguments."""

    def __init__(self, *routes: tuple[str, str, Handler]) -> None:
        self._routes = [
            (method, re.compile(pattern), handler) for method, pattern, handler in routes
        ]

    def __call__(self, request: Request) -> Response:
        """Answer with the first matching handler, or 404."""
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                return handler(request, **match.groupdict())
        return page(404, "Not Found")


def serve(
    address: tuple[str, int], application: Application, log: Callable[[str], None]
) -> ThreadingHTTPServer:
    """Bind a server; call its serve_forever()."""

    class Exchange(BaseHTTPRequestHandler):
        def exchange(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, self.rfile.read(length))
            try:
                response = application(request)
            except Exception as error:  # one broken request must not end the server
                log(f"error: {self.command} {self.path}: {error!r}")
                response = page(500, HTTPStatus.INTERNAL_SERVER_ERROR.phrase, type(error).__name__)
            if response.goes_on is not None:
                self.protocol_version = "HTTP/1.1"
            self.send_response(response.status)
            if response.goes_on is None:
                self.send_header("Content-Type", response.content_type)
                self.send_header("Content-Length", str(len(response.body)))
            for name, value in response.headers:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(response.body)
            if response.goes_on is not None:
                response.goes_on(self.rfile, self.wfile)
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = exchange  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not logged: their addresses hold codes and states."""

    return Server(address, Exchange)


class Server(ThreadingHTTPServer):
    """A thread for each connection; all addresses of IPv6 include those of IPv4, as for Go."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], handler: Callable[..., BaseHTTPRequestHandler]
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind, for IPv4 too."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()
