"""JSON documents at a remote, each assigned to the folder that it is in.

They are read with one call, which gives no file names; a document names its set. Where several
name the same set, or none names a folder, one may claim to be another set's: then the folder's own
is read separately.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..config.settings import Remote
from ..system.validation import from_json
from . import rclone
from .rclone import Listed

LARGEST = 16 << 20  # bytes of a document; a manifest of 10,000 tables has one


@dataclass(frozen=True)
class Document:
    """A JSON object, and its original bytes."""

    value: dict[str, Any]
    data: bytes


Folders = Mapping[str, Mapping[str, Listed]]  # folder -> its files by name


def read(
    remote: Remote, folders: Folders, files: Mapping[str, str]
) -> dict[str, dict[str, Document | str]]:
    """Return, for each of ``files``, its document in each folder, or the problem as text.

    ``files``: name -> the member with the set's name. Raises Failure where the remote cannot be
    read.
    """
    every = list(documents(rclone.contents(remote, LARGEST, *files)))
    return {
        file: _of_folders(
            remote,
            folders,
            file,
            key,
            (file_there for file_there in every if key in file_there.value),
        )
        for file, key in files.items()
    }


def _of_folders(
    remote: Remote, folders: Folders, file: str, key: str, found: Iterable[Document]
) -> dict[str, Document | str]:
    wanted = {name: files[file].bytes for name, files in folders.items() if file in files}
    claims: dict[str, list[Document]] = {}
    for file_there in found:
        claims.setdefault(str(file_there.value[key]), []).append(file_there)
    fields: dict[str, Document | str] = {
        name: claims[name][0] for name in wanted if len(claims.get(name, ())) == 1
    }
    doubtful, read_alone = sorted(wanted.keys() - fields.keys()), set[str]()
    while doubtful:
        name = doubtful.pop()
        read_alone.add(name)
        fields[name] = document = _alone(remote, name, file, wanted[name])
        claimed = str(document.value.get(key)) if isinstance(document, Document) else name
        if claimed != name:
            fields[name] = f"its {file} is that of {claimed[:80]}"
        if claimed in wanted and claimed not in read_alone and claimed not in doubtful:
            doubtful.append(claimed)
    return fields


def _alone(remote: Remote, name: str, file: str, size: int) -> Document | str:
    if size > LARGEST:
        return f"its {file} is larger than {LARGEST >> 20} MiB"
    try:
        data = rclone.content(remote, name, file)
        document = from_json(data)
    except ValueError:
        return f"its {file} cannot be read"
    return Document(document, data) if isinstance(document, dict) else f"its {file} cannot be read"


def documents(data: bytes) -> Iterator[Document]:
    """Yield each JSON document of several in a row, skipping incomplete ones.

    As we write them, only the outermost brace is followed by an indentation of two.
    """
    text, decoder = data.decode(errors="surrogateescape"), json.JSONDecoder()
    for start in re.finditer(r'\{\n  "', text):
        with suppress(ValueError, RecursionError):
            found, end = decoder.raw_decode(text, start.start())
            if isinstance(found, dict):
                written = f"{text[start.start() : end]}\n".encode(errors="surrogateescape")
                yield Document(found, written)
