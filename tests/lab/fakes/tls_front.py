"""What stands before GitLab where it is reached by https: ends TLS and passes on to port 80."""

from __future__ import annotations

import socket
import ssl
import sys
import threading


def main(certificate: str, key: str) -> None:
    """Serve on 127.0.0.1:443 until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 443)) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(context, connection), daemon=True).start()


def serve(context: ssl.SSLContext, connection: socket.socket) -> None:
    """Pass one request on, and its answer back."""
    try:
        outside = context.wrap_socket(connection, server_side=True)
    except ssl.SSLError:
        return  # the client does not trust us, which is what some tests want
    with outside, socket.create_connection(("127.0.0.1", 80)) as inside:
        inside.sendall(read_request(outside))
        while piece := inside.recv(65536):
            outside.sendall(piece)


def read_request(stream: ssl.SSLSocket) -> bytes:
    """One request with its body; the answer's end is the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += stream.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields.get(b"content-length", b"0")):
        body += stream.recv(65536)
    return head + b"\r\n\r\n" + body


if __name__ == "__main__":
    main(*sys.argv[1:])
