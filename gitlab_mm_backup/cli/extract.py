"""gitlab-mm extract: uploads and messages of a set, written to a directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    from ..rehearsal.conversation import Conversation, Page
    from ..rehearsal.described import Described
    from ..rehearsal.extraction import Extraction
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

    With --page the messages are written too, each channel or conversation as an HTML page that
    loads nothing. No file is overwritten: a number is added to a name that is taken. With sudo, the
    files belong to the account that called it.
    """
    from ..rehearsal import conversation, described, extraction, markdown, output_folder, search

    assert options.to is not None
    if options.page:
        markdown.renderer()  # without its library nothing is to be written
    ours, store = settings_and_store(context)
    query = options.query(deleted=True)
    there = offsite.looked_at(ours, store, options.place, options.wanted, options.identity)
    with there as set_:
        found = search.look(set_, query, messages=options.page)
        uploads = [upload for upload in found.uploads if options.deleted or not upload.deleted]
        left_out = len(found.uploads) - len(uploads)
        said = conversation.of(set_, found, deleted=options.deleted) if options.page else []
        asker = output_folder.Asker(*environment.sudo())
        with output_folder.opened(options.to, asker) as folder:
            made = extraction.extract(set_, uploads, folder, conversation.avatars(said))
            pages = [write_page(channel, set_, made) for channel in said]
    rows = {row.id: described.upload(row, found.directory) for row in uploads}
    return extracted_result(set_.name, made, rows, left_out, pages)


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
    file = done.folder.write(name, content)
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
    from ..rehearsal import conversation, markdown

    shown = {person: conversation.as_data(picture) for person, picture in pictures.items()}
    return html.render(
        "rehearsal/conversation.jinja",
        {"markdown": markdown.to_html},
        made=made,
        set=name,
        host=host,
        at=at,
        files=files,
        pictures=shown,
    )


def extracted_result(
    name: str,
    made: Extraction,
    rows: Mapping[str, Described],
    left_out: int,
    pages: Sequence[Page] = (),
) -> CommandResult:
    """Return which files and pages were written, and which uploads the set lacks."""
    count = humanize.number(len(made.written), "file")
    lines = [
        f"Wrote {count} to {humanize.plain(str(made.folder.path))}, {humanize.size(made.bytes)}"
    ]
    lines += [
        f"{page.file}: {humanize.number(page.messages, 'message')} of {humanize.plain(page.channel)}"
        for page in pages
    ]
    if left_out:
        deleted = humanize.number(left_out, "deleted upload")
        lines.append(f"{deleted} left out; to include them: --deleted")
    warnings = [*made.problems]
    for upload in made.missing[:_MOST_NAMED]:
        warnings.append(f"Not in the set: {'  '.join(rows[upload.id].cells)}")
    if len(made.missing) > _MOST_NAMED:
        warnings.append(f"Not in the set: {len(made.missing) - _MOST_NAMED} more; --json lists all")
    fields = {
        "set": name,
        "to": str(made.folder.path),
        "files": [
            {**rows[written.upload.id].fields, "file": written.file, "bytes": written.bytes}
            for written in made.written
        ],
        "missing": [rows[upload.id].fields for upload in made.missing],
        "bytes": made.bytes,
        "left_out": left_out,
        "pages": [vars(page) for page in pages],
    }
    return CommandResult(fields, lines, warnings, answer=True)
