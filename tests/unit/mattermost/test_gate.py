"""The gate before an opened Mattermost, with real sockets and a server that tells what it was asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import gate
from gitlab_mm_backup.mattermost.gate import Gate, Visit
from gitlab_mm_backup.mattermost.listener import Listener
from gitlab_mm_backup.system.redaction import Secret

TOKEN = "t" * 26
COOKIES = {"MMAUTHTOKEN": Secret(TOKEN), "MMUSERID": Secret("u" * 26), "MMCSRF": Secret("c" * 26)}
PAGE = b"<html><BODY class='x'>page</body></html>"


def receive(stream: socket.socket) -> bytes:
    received = b""
    while piece := stream.recv(65536):
        received += piece
    return received


@contextlib.contextmanager
def passing(answer: bytes, below: str = "") -> Iterator[tuple[int, list[bytes]]]:
    """A gate before a server that gives one answer to all; yields its port, and what the server gets."""
    asked: list[bytes] = []
    inner = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = inner.accept()
                with client:
                    asked.append(client.recv(65536))
                    client.sendall(answer)

    with inner, gate.bound(0) as listener:
        there = Listener("127.0.0.1", inner.getsockname()[1], below=below)
        door = Gate(listener, Visit(Secret("key"), COOKIES, "as <it> was", there))
        for task in (serve, door.serve):
            threading.Thread(target=task, daemon=True).start()
        yield listener.getsockname()[1], asked
        inner.shutdown(socket.SHUT_RDWR)


def ask(port: int, *lines: str, token: str = TOKEN) -> bytes:
    first, *fields = lines or ("GET / HTTP/1.1",)
    cookie = f"Cookie: a=b; MMAUTHTOKEN={token}"
    with socket.create_connection(("127.0.0.1", port), 10) as there:
        head = [first, f"Host: 127.0.0.1:{port}", cookie, *fields, "", ""]
        there.sendall("\r\n".join(head).encode())
        return receive(there)


def html(*fields: bytes, page: bytes = PAGE) -> bytes:
    head = [b"HTTP/1.0 200 OK", b"Content-Type: text/html", b"Content-Length: %d" % len(page)]
    return b"\r\n".join([*head, *fields, b"", page])


def test_a_request_arrives_as_one_to_site_url_on_its_own_connection() -> None:
    with passing(b"HTTP/1.0 200 OK\r\n\r\nhello") as (port, asked):
        lines = ("GET /x?y HTTP/1.1", "Connection: keep-alive", "Expect: 100-continue", "X: 1")
        answer = ask(port, *lines, f"Origin: http://127.0.0.1:{port}")
    assert answer == b"HTTP/1.0 200 OK\r\n\r\nhello"
    first, *fields = asked[0].decode().rstrip("\r\n").split("\r\n")
    assert first == "GET /x?y HTTP/1.0"
    assert fields == [
        f"Cookie: a=b; MMAUTHTOKEN={TOKEN}",
        "X: 1",
        f"Host: 127.0.0.1:{port}",
        "Connection: close",
        f"Origin: http://127.0.0.1:{port}",
    ]


def test_only_pages_get_the_banner() -> None:
    browser = "Accept: text/html,*/*"
    banner = b"as &lt;it&gt; was</div>"
    with passing(html()) as (port, asked):
        page = ask(port, "GET / HTTP/1.1", browser, "Accept-Encoding: gzip")
        assert b"gzip" not in asked[-1]
        assert page.index(b"<BODY class='x'>") < page.index(banner) < page.index(b"page</body>")
        assert b"connect-src 'self' ws://127.0.0.1:%d;" % port in page
        for lines in (
            ("GET / HTTP/1.1",),
            ("POST / HTTP/1.1", browser),
            ("GET /api/v4/files/x HTTP/1.1", browser, "Accept-Encoding: gzip"),
        ):
            assert ask(port, *lines) == html(), lines
        assert b"gzip" in asked[-1]
    with passing(html(b"Content-Disposition: attachment")) as (port, _):
        assert ask(port, "GET /f HTTP/1.1", browser) == html(b"Content-Disposition: attachment")
    with passing(html(page=b"no body")) as (port, _):
        assert banner in ask(port, "GET / HTTP/1.1", browser)


def test_a_page_without_end_is_cut_off() -> None:
    with passing(html(page=b"x" * (9 << 20))) as (port, _):
        assert ask(port, "GET / HTTP/1.1", "Accept: text/html").startswith(b"HTTP/1.1 502 ")


def test_below_a_path_cookies_and_data_are_below_it() -> None:
    with passing(html(), below="/chat") as (port, _):
        welcome = ask(port, "GET /key HTTP/1.1", token="")
        assert b"\r\nLocation: /chat/\r\n" in welcome and b"Path=/chat; SameSite=Lax" in welcome
        assert ask(port, "GET /chat/api/v4/x HTTP/1.1", "Accept: text/html") == html()


def test_of_two_at_once_one_gets_the_cookie() -> None:
    with passing(html()) as (port, _):
        answers: list[bytes] = []

        def visit() -> None:
            answers.append(ask(port, "GET /key HTTP/1.1", token=""))

        threads = [threading.Thread(target=visit) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(b"Set-Cookie" in answer for answer in answers) == 1
    assert sorted({answer.split()[1] for answer in answers}) == [b"303", b"403"]


def test_too_many_connections_do_not_hinder_later_ones() -> None:
    with passing(html()) as (port, _):
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        for stream in idle:
            stream.close()
        answer = b""
        while answer != html():  # until the gate has seen that they are closed
            with contextlib.suppress(ConnectionError):  # one more than it takes
                answer = ask(port)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Failure) as told, gate.bound(port):
            pass
    assert (told.value.detail, told.value.hint) == (
        "Address already in use",
        "Give another one: --port.",
    )
