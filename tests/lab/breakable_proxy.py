"""A line between two ports that can be told to break: python3 breakable_proxy.py LISTEN TARGET.

/run/cut-line holds "BYTES TIMES" or "BYTES TIMES back": connections that carry more than so many bytes
towards the target, or back from it, are reset, so many times. /run/carried-back gets how many bytes came
back from the target in all. It works by itself, without the checkout's modules.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
from pathlib import Path

ORDER = Path("/run/cut-line")
CARRIED = Path("/run/carried-back")
LOCK = threading.Lock()


def limit(back: bool) -> int | None:
    """After how many bytes in a direction a connection is to break."""
    words = ORDER.read_text().split() if ORDER.exists() else []
    meant = words[2:] == (["back"] if back else [])
    return int(words[0]) if words and meant and int(words[1]) > 0 else None


def note_break() -> None:
    with LOCK:
        count, times, *back = ORDER.read_text().split()
        ORDER.write_text(" ".join([count, str(int(times) - 1), *back]))


def note_carried(count: int) -> None:
    with LOCK:
        before = int(CARRIED.read_text() or 0) if CARRIED.exists() else 0
        CARRIED.write_text(str(before + count))


def reset(*ends: socket.socket) -> None:
    """End both at once, as a line that breaks; the thread of the other direction wakes by it."""
    for end in ends:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.shutdown(socket.SHUT_RDWR)
            end.close()


def pass_on(source: socket.socket, sink: socket.socket, back: bool) -> None:
    carried, most = 0, limit(back)
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            carried += len(piece)
            if back:
                note_carried(len(piece))
            if most is not None and carried > most:
                note_break()
                reset(source, sink)
                return
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


def main() -> None:
    listen, target = int(sys.argv[1]), int(sys.argv[2])
    with socket.create_server(("127.0.0.1", listen)) as server:
        while True:
            near, _ = server.accept()
            far = socket.create_connection(("127.0.0.1", target))
            for ends, back in (((near, far), False), ((far, near), True)):
                threading.Thread(target=pass_on, args=(*ends, back), daemon=True).start()


if __name__ == "__main__":
    main()
