"""The websocket of the API, as far as to see that it is there: a greeting, and an answer to each short action."""

from __future__ import annotations

import base64
import hashlib
import json
from io import BufferedIOBase
from typing import Any
from urllib.parse import urlsplit

from .mattermost_json import failure
from .web import Request, Response

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
TEXT, CLOSE = 0x81, 0x88


def connect(request: Request, allowed: str, version: str) -> Response:
    """Switch the connection; only pages of the same host may, or those that AllowCorsFrom names (App.OriginChecker)."""
    headers = request.headers
    origin, host = headers.get("origin", ""), headers.get("host", "")
    same = origin in allowed.split() if allowed else not origin or urlsplit(origin).netloc == host
    upgrade = (
        headers.get("upgrade", "").lower() == "websocket"
        and "upgrade" in headers.get("connection", "").lower()
    )
    if not same or not upgrade:
        return failure(400, "api.web_socket.connect.upgrade", "URL Blocked because of CORS.")
    digest = hashlib.sha1(f"{headers['sec-websocket-key']}{GUID}".encode()).digest()
    accept = base64.b64encode(digest).decode()
    switched = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept),
    ]
    hello = {"event": "hello", "data": {"server_version": version}, "seq": 0}
    return Response(101, headers=switched, goes_on=lambda source, sink: talk(source, sink, hello))


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
