"""gitlab-mm extract: uploads and messages of a set, written to a directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..result import CommandResult
from ..system import environment, humanize
from . import offsite
from .common import SET_HELP, filled, settings_and_store, verb
from .contents import LATEST, Options, file_option, time_options, whose_options

if TYPE_CHECKING:
    from datetime import datetime

    from ..rehearsal.bulk_import import ImportFile
    from ..rehearsal.conversation import Conversation, Page
    from ..rehearsal.described import Described
    from ..rehearsal.extraction import Extraction, Place
    from ..rehearsal.search import SearchResult, Upload
    from ..store.sets import BackupSet
    from .output import Context

_MOST_NAMED = 20  # missing uploads with a warning of their own


@click.command(epilog=SET_HELP)
@click.argument("wanted", metavar="[SET]", default=LATEST)
@whose_options
@file_option
@time_options
@click.option("--deleted", is_flag=True, help="Include deleted uploads.")
@click.option(
    "--page",
    is_flag=True,
    help="Also write each channel or conversation as an HTML page to read and print.",
)
@click.option(
    "--bulk-import",
    is_flag=True,
    help="Also write the messages as import.jsonl, which Mattermost's bulk import loads.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    metavar="DIR",
    required=True,
    help="Directory for the files; it is created if it is missing.",
)
@offsite.from_elsewhere
@verb
@filled(Options)
def extract(context: Context, options: Options) -> CommandResult:
    """Write uploads of a set to a directory, by original names.

    With --page or --bulk-import the messages are written too: each channel or conversation as an
    HTML page that loads nothing, or all as one file that Mattermost's importer loads. No file is
    overwritten: a number is added to a name that is taken. With sudo, the files belong to the
    account that called it.
    """
    from ..rehearsal import conversation

    if options.file and (options.page or options.bulk_import):
        raise click.UsageError("--file selects uploads; leave it out with --page or --bulk-import.")
    if options.page:
        conversation.renderer()  # without its library nothing is to be written
    ours, store = settings_and_store(context)
    there = offsite.looked_at(ours, store, options.place, options.wanted, options.identity)
    with there as set_:
        return extracted_result(_extracted(set_, options))


def _extracted(set_: BackupSet, options: Options) -> Extracted:
    """Look for what is wanted, and write it."""
    from ..rehearsal import bulk_import, conversation, extraction, output_folder, search

    assert options.to is not None
    messages = options.page or options.bulk_import
    found = search.look(set_, options.query(deleted=True), messages=messages)
    uploads = [upload for upload in found.uploads if options.deleted or not upload.deleted]
    said = conversation.of(set_, found, deleted=options.deleted) if messages else []
    place: Place = extraction.together
    small, material = list(conversation.avatars(said)), None
    if options.bulk_import:
        material = bulk_import.collect(set_, said, found.directory)
        small, place = material.small_files, bulk_import.place
    asker = output_folder.Asker(*environment.sudo())
    with output_folder.opened(options.to, asker) as folder:
        made = extraction.extract(set_, uploads, folder, small, place)
        done = Extracted(set_.name, found, uploads, made)
        if options.page:
            done.pages = [write_page(channel, set_, made) for channel in said]
        if material is not None:
            done.import_file, done.warnings = bulk_import.write(material, made)
    return done


def write_page(made: Conversation, set_: BackupSet, done: Extraction) -> Page:
    """Write a conversation as a page beside its uploads."""
    from ..rehearsal import conversation

    faces = conversation.avatars([made]).items()
    content = page(
        made,
        name=set_.name,
        host=set_.manifest.host,
        at=set_.manifest.made,
        files={written.upload.id: written.file for written in done.written},
        pictures={person: done.small[path] for path, person in faces if path in done.small},
    )
    name = f"{made.channel.replace('/', '-')}.html"
    file = done.folder.write(name, [content])
    return conversation.Page(made.channel, made.title, made.posts, file)


def page(
    made: Conversation,
    *,
    name: str,
    host: str,
    at: datetime,
    files: Mapping[str, str],
    pictures: Mapping[str, bytes],
) -> bytes:
    """Return a conversation of set ``name`` as HTML that loads nothing.

    ``files`` has the names of written uploads, ``pictures`` the avatars, both by ids.
    """
    from ..health import html
    from ..rehearsal import conversation

    shown = {person: conversation.as_data(picture) for person, picture in pictures.items()}
    return html.render(
        "rehearsal/conversation.jinja",
        {"markdown": conversation.to_html},
        made=made,
        set=name,
        host=host,
        at=at,
        files=files,
        pictures=shown,
    )


@dataclass
class Extracted:
    """What was found in a set, and what of it was written."""

    set: str
    found: SearchResult
    uploads: Sequence[Upload]  # those that were wanted
    made: Extraction
    pages: list[Page] = field(default_factory=list)
    import_file: ImportFile | None = None
    warnings: list[str] = field(default_factory=list)

    def row(self, upload: Upload) -> Described:
        """Describe an upload for the output."""
        from ..rehearsal import described

        return described.upload(upload, self.found.directory)


def extracted_result(done: Extracted) -> CommandResult:
    """Return which files were written, and which uploads the set lacks."""
    made, left_out = done.made, len(done.found.uploads) - len(done.uploads)
    warnings = [*made.problems, *done.warnings]
    for upload in made.missing[:_MOST_NAMED]:
        warnings.append(f"Not in the set: {'  '.join(done.row(upload).cells)}")
    if len(made.missing) > _MOST_NAMED:
        warnings.append(f"Not in the set: {len(made.missing) - _MOST_NAMED} more; --json lists all")
    fields = {
        "set": done.set,
        "to": str(made.folder.path),
        "files": [
            {**done.row(written.upload).fields, "file": written.file, "bytes": written.bytes}
            for written in made.written
        ],
        "missing": [done.row(upload).fields for upload in made.missing],
        "bytes": made.bytes,
        "left_out": left_out,
        "pages": [vars(page) for page in done.pages],
        "import_file": vars(done.import_file) if done.import_file else None,
    }
    return CommandResult(fields, _extracted_lines(done, left_out), warnings, answer=True)


def _extracted_lines(done: Extracted, left_out: int) -> list[str]:
    made = done.made
    count, place = humanize.number(len(made.written), "file"), humanize.plain(str(made.folder.path))
    lines = [f"Wrote {count} to {place}, {humanize.size(made.bytes)}"]
    lines += [
        f"{page.file}: {humanize.number(page.messages, 'message')} of {humanize.plain(page.channel)}"
        for page in done.pages
    ]
    if done.import_file is not None:
        file = done.import_file
        messages = humanize.number(file.messages, "message")
        lines.append(f"{file.file}: {messages} and {humanize.number(file.users, 'user')}")
    if left_out:
        deleted = humanize.number(left_out, "deleted upload")
        lines.append(f"{deleted} left out; to include them: --deleted")
    return lines
