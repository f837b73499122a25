"""Write the parts of a site's database: the dump, and the names in it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from ..config.settings import Settings
from ..mattermost.site import Site
from ..postgresql import dump
from ..postgresql.dump import Counted, DatabaseSnapshot
from ..store.inventory import Store
from ..store.local import PartWriter
from ..store.manifest import FILES_OF_PARTS, NAMES, Part
from ..store.restic_store import ResticStore
from ..system.parallel import pipe_between
from ..system.process import Command, Sink, compress, pipeline

_NAMES_PACKED, _NAMES_PLAIN = FILES_OF_PARTS[NAMES]
_ROWS = "rows as COPY prints them"


def write(
    site: Site,
    settings: Settings,
    store: Store,
    staging: Path,
    snapshot: DatabaseSnapshot,
) -> tuple[dict[str, Part], Counted]:
    """Write the dump and the names; return their parts, and the counts in their snapshot."""
    dumped = functools.partial(dump.dump, site.database, site.client_programs, snapshot)
    if isinstance(store, ResticStore):
        return _keep(store, staging, dumped)
    writer, names = PartWriter(staging / "database.dump.zst"), PartWriter(staging / _NAMES_PACKED)
    compressor = compress(settings.database_level, settings.packers)
    counted, _ = pipe_between(
        lambda put: dumped(put, compressor, writer.write),
        lambda rows: pipeline(compress(settings.database_level, 1), stdin=rows, sink=names.write),
    )
    return {
        "database": writer.finish("pg_dump custom, zstd"),
        NAMES: names.finish(f"{_ROWS}, zstd"),
    }, counted


def _keep(
    store: ResticStore, staging: Path, dumped: Callable[[Sink, Command, Sink], Counted]
) -> tuple[dict[str, Part], Counted]:
    """Have restic store the dump; not compressed, for then it could not deduplicate anything."""

    def write_both(keep: Command, sink: Sink) -> tuple[Part, Counted]:
        path = staging / _NAMES_PLAIN
        path.unlink(missing_ok=True)  # of an attempt while the repository was locked
        names = PartWriter(path)
        counted = dumped(names.write, keep, sink)
        return names.finish(_ROWS), counted

    part, (named, counted) = store.keep_dump(staging, write_both)
    return {"database": part, NAMES: named}, counted
