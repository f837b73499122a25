"""The websocket of the API, as far as to see that it is there: a greeting, and an answer to each short action."""

from __future__ import annotations

import base64
import hashlib
import json
from io import BufferedIOBase
from typing import Any
from urllib.parse import urlsplit

from .generation import version_tuple
from .mattermost_json import failure
from .web import Request, Response

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
TEXT, CLOSE = 0x81, 0x88


def connect(request: Request, settings: dict[str, Any], version: str) -> Response:
    """Switch the connection; only some pages may (App.OriginChecker)."""
    headers = request.headers
    same = may_connect(headers.get("origin", ""), headers.get("host", ""), settings, version)
    upgrade = (
        headers.get("upgrade", "").lower() == "websocket"
        and "upgrade" in headers.get("connection", "").lower()
    )
    if not same or not upgrade:
        text = "URL Blocked because of CORS."
        return failure(400 if same else 403, "api.web_socket.connect.upgrade", text)
    digest = hashlib.sha1(f"{headers['sec-websocket-key']}{GUID}".encode()).digest()
    accept = base64.b64encode(digest).decode()
    switched = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept),
    ]
    hello = {"event": "hello", "data": {"server_version": version}, "seq": 0}
    return Response(101, headers=switched, goes_on=lambda source, sink: talk(source, sink, hello))


def may_connect(origin: str, host: str, settings: dict[str, Any], version: str) -> bool:
    """Pages that AllowCorsFrom names, or those of SiteURL; before 9, and without one, of the host that is asked."""
    allowed, site = settings["AllowCorsFrom"], urlsplit(settings["SiteURL"])
    if allowed:
        return origin in allowed.split()
    page = urlsplit(origin)
    if site.netloc and version_tuple(version) >= (9,):
        return not origin or (page.netloc, page.scheme) == (site.netloc, site.scheme)
    return not origin or page.netloc == host


def talk(source: BufferedIOBase, sink: BufferedIOBase, hello: dict[str, Any]) -> None:
    """Greet, and say OK to each action until the other side closes."""
    sink.write(frame(json.dumps(hello).encode()))
    while len(head := source.read(2)) == 2 and head[0] == TEXT:
        mask, masked = source.read(4), source.read(head[1] & 0x7F)
        action = json.loads(bytes(byte ^ mask[place % 4] for place, byte in enumerate(masked)))
        answer = {"status": "OK", "data": {"text": "pong"}, "seq_reply": action["seq"]}
        sink.write(frame(json.dumps(answer).encode()))


def frame(content: bytes) -> bytes:
    """A text frame of less than 64 KiB from a server."""
    size = len(content)
    length = bytes([size]) if size < 126 else bytes([126]) + size.to_bytes(2, "big")
    return bytes([TEXT]) + length + content
