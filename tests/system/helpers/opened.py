"""A set that is open in a lab, and requests to it as browsers and other accounts send them."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.lab.sandbox import PYTHON, Lab

PORT = 8066
# Sends bytes to a port of this host; prints what comes back, in Base64.
ASK = """
import base64, json, socket, sys
asked = json.load(sys.stdin)
with socket.create_connection(("127.0.0.1", asked["port"]), 20) as there:
    there.sendall(base64.b64decode(asked["bytes"]))
    answer = b""
    try:
        while len(answer) < asked["most"] and (piece := there.recv(65536)):
            answer += piece
    except ConnectionResetError:
        pass
print(base64.b64encode(answer).decode())
"""


@dataclass(frozen=True)
class Reply:
    """A response; each header may be there several times."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header.lower() == name]

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Opening:
    """A running `gitlab-mm open`."""

    lab: Lab
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)  # until it was open
    port: int = PORT
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The one-time address."""
        (found,) = re.findall(r"http://127\.0\.0\.1:\d+/[\w-]{32}(?!\S)", "\n".join(self.said))
        return str(found)

    @property
    def key(self) -> str:
        return self.address.rpartition("/")[2]

    @property
    def cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def ask(
        self,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        user: str = "root",
    ) -> Reply:
        """Send a request, with the cookies of ``sign_in``, as a local account."""
        fields = {
            "Host": f"127.0.0.1:{self.port}",
            **({"Cookie": self.cookie} if self.cookies else {}),
            **({"Content-Length": str(len(body))} if body else {}),
            **(headers or {}),
        }
        head = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        return parsed(self.raw("\r\n".join([*head, "", ""]).encode() + body, user))

    def raw(self, content: bytes, user: str = "root", most: int = 1 << 30) -> bytes:
        """Send bytes, and return what comes back: all, or at least ``most``."""
        asked = {"port": self.port, "bytes": base64.b64encode(content).decode(), "most": most}
        done = self.lab.run(PYTHON, "-I", "-c", ASK, input=json.dumps(asked), user=user, cwd="/")
        return base64.b64decode(done.stdout)

    def sign_in(self) -> Reply:
        """Go to the address, and keep the cookies."""
        reply = self.ask(f"/{self.key}")
        for cookie in reply.all("set-cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return reply

    def api(self, path: str, method: str = "GET", document: object = None) -> Reply:
        """Call the API as Mattermost's page does."""
        headers = {"X-CSRF-Token": self.cookies.get("MMCSRF", ""), "Accept": "*/*"}
        body = b"" if document is None else json.dumps(document).encode()
        return self.ask(f"/api/v4{path}", method, headers, body)

    def close(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """End it by a signal; return its exit code, and what it said from then on."""
        self.lab.send_signal(self.process, number)
        return self.ended()

    def ended(self) -> tuple[int, str, str]:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=60)
        assert "Traceback" not in err, err
        return self.process.returncode, out, err


def parsed(answer: bytes) -> Reply:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Reply(int(first.split()[1]), fields, body)


@contextlib.contextmanager
def opened(
    lab: Lab, *words: str, port: int = PORT, env: Mapping[str, str] | None = None
) -> Iterator[Opening]:
    """Open the newest set, or the one in ``words``, for the block; it is killed at the end."""
    command = ("gitlab-mm", "open", "--port", str(port), *words)
    process = lab.popen(*command, env=env)
    opening = Opening(lab, process, port=port)
    stream = process.stderr if "--json" in words else process.stdout
    assert stream is not None
    try:
        while not any("closes it" in line for line in opening.said):
            line = stream.readline()
            assert line, (opening.said, process.communicate(timeout=60))
            opening.said.append(line.rstrip("\n"))
        yield opening
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, IndexError):
                lab.send_signal(process, signal.SIGKILL)
            process.communicate(timeout=60)
