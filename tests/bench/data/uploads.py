"""The file tree: uploads, previews and plugins, as in Mattermost's home."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

from tests.bench.data.plan import PLUGIN_BYTES, Plan, Upload
from tests.bench.data.text import Text, random_bytes

MAGIC = {
    "jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "mp4": b"\0\0\0\x18ftypmp42",
    "zip": b"PK\3\4\x14\0\0\0\x08\0",
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
}
LEVELS = ("INFO", "INFO", "INFO", "WARN", "DEBUG", "ERROR")
PLUGIN_FILES = (
    "com.example.plugin{}/server/dist/plugin-linux-amd64",
    "com.example.plugin{}/webapp/dist/main.js",
)


def fill(home: Path, plan: Plan) -> None:
    """Write what the plan has below `home`: data, and the first time plugins."""
    text = Text(random.Random(0))
    for upload in plan.uploads:
        _write_upload(home / "data", upload, text)
    if not plan.night:
        _write_plugins(home / "plugins", plan, text)


def _write_upload(data: Path, upload: Upload, text: Text) -> None:
    rng = random.Random(upload.seed)
    _write(data / upload.path, _content(rng, upload.extension, upload.size, text), upload.at)
    if upload.is_picture:
        preview = int(min(max(upload.size * 0.2, 8 << 10), 250 << 10))
        for suffix, size in (("preview", preview), ("thumb", 3000 + rng.randrange(9000))):
            picture = _content(rng, "jpg", size, text)
            _write(data / f"{upload.stem}_{suffix}.jpg", picture, upload.at + 1000)


def _write_plugins(folder: Path, plan: Plan, text: Text) -> None:
    """Half program files (random), half bundles of script (text)."""
    rng, place = plan.chance("plugins"), 0
    left = PLUGIN_BYTES * min(1, plan.scale * 4)
    while left > 0:
        size = int(min(left, rng.uniform(1e5, 6e6))) + 1
        script = place % 2 == 1
        content = soft_bytes(rng, "json", size, text) if script else random_bytes(rng, size)
        _write(folder / PLUGIN_FILES[script].format(place // 2), content, plan.start)
        left, place = left - size, place + 1


def _write(path: Path, content: bytes, at: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (at / 1000, at / 1000))


def _content(rng: random.Random, extension: str, size: int, text: Text) -> bytes:
    if extension in MAGIC:
        return (MAGIC[extension] + random_bytes(rng, size))[:size]
    return soft_bytes(rng, extension, size, text)


def soft_bytes(rng: random.Random, extension: str, size: int, text: Text) -> bytes:
    """Content that compresses but never repeats a block, so that deduplication finds nothing."""
    text.rng, pieces, have = rng, [], 0
    moment = 1_650_000_000.0 + rng.randrange(10**7)
    while have < size:
        if extension == "txt":
            piece = text.prose(400)
        elif extension == "log":
            moment, piece = _log_lines(rng, moment, text)
        elif extension == "csv":
            piece = "".join(_csv_line(rng, text) for _ in range(200))
        else:
            piece = ",\n".join(_json_object(rng, text) for _ in range(50))
        pieces.append(piece.encode())
        have += len(pieces[-1])
    return b"".join(pieces)[:size]


def _log_lines(rng: random.Random, moment: float, text: Text) -> tuple[float, str]:
    lines = []
    for _ in range(200):
        moment += rng.random() * 3
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
        address = f"10.{rng.randrange(4)}.{rng.randrange(256)}.{rng.randrange(256)}"
        lines.append(
            f"{stamp}.{int(moment * 1000) % 1000:03d} {rng.choice(LEVELS):5}"
            f" [{rng.choice(text.words[200:260])}] {address} {' '.join(text.take(6))}"
            f" id={rng.getrandbits(64):016x} ms={int(rng.expovariate(0.01))}\n"
        )
    return moment, "".join(lines)


def _csv_line(rng: random.Random, text: Text) -> str:
    word = text.words[rng.randrange(3000)]
    return (
        f"{rng.getrandbits(20)},{word},{rng.gauss(100, 30):.2f},{rng.random():.4f},"
        f"{rng.choice('ABCDE')},{rng.randrange(10**6)}\n"
    )


def _json_object(rng: random.Random, text: Text) -> str:
    document = {
        "id": rng.getrandbits(32),
        "name": " ".join(text.take(2)),
        "active": rng.random() < 0.5,
        "score": round(rng.random(), 5),
        "tags": text.take(3),
        "text": text.sentence(8),
    }
    return json.dumps(document, indent=1)
