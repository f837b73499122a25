"""Stands in for the bundled nginx: one virtual host for GitLab, one for Mattermost, 502 when what is behind is away."""

from __future__ import annotations

import http.client
import os
import pwd
import sys
import threading
from urllib.parse import urlsplit

from .web import GITLAB, Application, Request, Response, page, serve

USER = "gitlab-www"
DROPPED = ("connection", "transfer-encoding", "content-length", "content-type", "date", "server")
Address = tuple[str, int]


def forward(request: Request, backend: Address) -> Response:
    """Ask the server behind and hand on its answer."""
    connection = http.client.HTTPConnection(*backend, timeout=60)
    headers = {
        name: value
        for name, value in request.headers.items()
        if name not in DROPPED or name == "content-type"
    }
    try:
        connection.request(
            request.method,
            request.target,
            request.body or None,
            {**headers, "X-Forwarded-Proto": "http"},
        )
        answer = connection.getresponse()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in DROPPED]
        return Response(answer.status, answer.read(), answer.getheader("Content-Type", ""), kept)
    except (OSError, http.client.HTTPException):
        return page(502, "502 Bad Gateway", "nginx")
    finally:
        connection.close()


def front(hosts: dict[str, Address]) -> Application:
    """The application: the host name decides; an unknown one gets GitLab, the default server."""

    def route(request: Request) -> Response:
        name = request.headers.get("host", "").partition(":")[0]
        return forward(request, hosts.get(name, GITLAB))

    return route


def become(user: str) -> None:
    """Give up root for good."""
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def main() -> int:
    """Serve: `nginx GITLAB_URL MATTERMOST_URL|- MATTERMOST_ADDRESS`."""
    urls = [urlsplit(argument) for argument in sys.argv[1:3] if argument != "-"]
    host, _, port = sys.argv[3].rpartition(":")
    backends: list[Address] = [GITLAB, (host, int(port))]
    hosts = {str(url.hostname): backend for url, backend in zip(urls, backends)}
    ports = {url.port or 80 for url in urls}
    servers = [
        serve(("127.0.0.1", number), front(hosts), lambda line: None) for number in sorted(ports)
    ]
    become(USER)
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0
