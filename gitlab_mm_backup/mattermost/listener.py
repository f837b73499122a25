"""The address of Mattermost on its own host, and requests to it without a proxy.

The server listens by TCP only, plain or with its own TLS; below SiteURL's path, where that has one
(server.go, utils/subpath.go of Mattermost). The socket of its local mode has other routes.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from ..system import namespaces, progress
from .effective_config import EffectiveConfig

if TYPE_CHECKING:
    import ssl

_PORTS = {"http": 80, "https": 443}
_USUAL = 8065
_EVERY = ("", "0.0.0.0", "::")
_MOST = 1 << 20  # bytes of an answer


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: Mapping[str, str]  # names in small letters
    body: bytes


@dataclass(frozen=True)
class Listener:
    """An address for requests to Mattermost."""

    host: str
    port: int
    tls: bool = False
    below: str = ""  # path that all others come after, without a slash at its end
    name: str = ""  # of the server, as people call it
    at_site: bool = False  # in the network of the live Mattermost, which may be a container's

    @property
    def place(self) -> str:
        """Return host and port as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.place}{self.below}"

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 5,
    ) -> Answer:
        """Send GET, or POST with a ``body``; raises OSError without a response."""
        if self.at_site:
            found: Answer = namespaces.at_site(lambda: self._ask(path, body, headers, timeout))
        else:
            found = self._ask(path, body, headers, timeout)
        return found

    @progress.waiting("Mattermost")
    def _ask(
        self, path: str, body: bytes | None, headers: Mapping[str, str] | None, timeout: float
    ) -> Answer:
        import http.client

        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            with contextlib.closing(connection):
                if self.tls:
                    connection.sock = self._secured(timeout)
                method = "GET" if body is None else "POST"
                connection.request(method, self.below + path, body, dict(headers or {}))
                found = connection.getresponse()
                fields = {name.lower(): value for name, value in found.getheaders()}
                return Answer(found.status, fields, found.read(_MOST))
        except http.client.HTTPException as error:
            raise OSError(errno.EPROTO, "it does not speak HTTP") from error

    def _secured(self, timeout: float) -> ssl.SSLSocket:
        """Connect by TLS without checking the certificate.

        It is for the public name, or expired; the address already shows that it is our own server.
        Without a name Mattermost's Let's Encrypt mode has no certificate.
        """
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        plain = socket.create_connection((self.host, self.port), timeout)
        try:
            return context.wrap_socket(plain, server_hostname=self.name or None)
        except BaseException:
            plain.close()
            raise


def of(settings: EffectiveConfig) -> Listener:
    """Return the address at which a Mattermost with these settings listens."""
    tls = settings.text("ServiceSettings", "ConnectionSecurity") == "TLS"
    listen = settings.text("ServiceSettings", "ListenAddress") or ("" if tls else f":{_USUAL}")
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    number = int(port) if port.isdecimal() else _PORTS.get(port, 443 if tls else _USUAL)
    name = urlsplit(settings.text("ServiceSettings", "SiteURL")).hostname or ""
    host = "127.0.0.1" if host in _EVERY else host
    return Listener(host, number, tls, below(settings), name, at_site=True)


def below(settings: EffectiveConfig) -> str:
    """Return the path in SiteURL, "" where it has none."""
    return urlsplit(settings.text("ServiceSettings", "SiteURL")).path.rstrip("/")
