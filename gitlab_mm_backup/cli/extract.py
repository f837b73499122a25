"""gitlab-mm extract and recover: one thing of a set, written to a directory, or put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import Failure
from ..restore.plan import LATEST
from ..result import CommandResult
from ..system import environment, humanize
from . import common, offsite
from .common import SET_HELP, filled, settings_and_store, verb
from .contents import Options, file_option, time_options, whose_options

if TYPE_CHECKING:
    from datetime import datetime

    from ..mattermost.site import Site
    from ..rehearsal.bulk_import import ImportFile
    from ..rehearsal.conversation import Conversation, Messages, Page
    from ..rehearsal.described import Described
    from ..rehearsal.extraction import Extraction, Place
    from ..rehearsal.recover import Asked, Recovery, Undone
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
    with_messages = options.page or options.bulk_import
    if options.file and with_messages:
        raise click.UsageError("--file selects uploads; leave it out with --page or --bulk-import.")
    if options.page:
        from ..rehearsal import conversation

        conversation.renderer()  # without its library nothing is to be written
    ours, store = settings_and_store(context)
    with options.look(ours, store, messages=with_messages) as set_:
        if not with_messages:
            return extracted_result(_extracted(set_, options, None))
        from ..rehearsal import conversation

        with conversation.kept(ours.scratch_dir, deleted=options.deleted) as messages:
            return extracted_result(_extracted(set_, options, messages))


def _extracted(set_: BackupSet, options: Options, messages: Messages | None) -> Extracted:
    """Look for what is wanted, and write it."""
    from ..rehearsal import extraction, output_folder, search

    assert options.to is not None
    query, take = options.query(deleted=True), messages.add if messages else None
    found = search.look(set_, query, messages=messages is not None, take=take)
    uploads = [upload for upload in found.uploads if options.deleted or not upload.deleted]
    place: Place = extraction.together
    small, said, material = list[str](), list["Conversation"](), None
    if messages is not None:
        from ..rehearsal import bulk_import, conversation

        messages.complete(set_, found)
        said = messages.conversations()
        small = list(conversation.avatars(said))
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
    pieces = page(
        made,
        name=set_.name,
        host=set_.manifest.host,
        at=set_.manifest.made,
        files={written.upload.id: written.file for written in done.written},
        pictures={person: done.small[path] for path, person in faces if path in done.small},
    )
    name = f"{made.channel.replace('/', '-')}.html"
    file = done.folder.write(name, pieces)
    return conversation.Page(made.channel, made.title, made.posts, file)


def page(
    made: Conversation,
    *,
    name: str,
    host: str,
    at: datetime,
    files: Mapping[str, str],
    pictures: Mapping[str, bytes],
) -> Iterator[bytes]:
    """Yield a conversation of set ``name`` as HTML that loads nothing, in pieces.

    ``files`` has the names of written uploads, ``pictures`` the avatars, both by ids.
    """
    from ..health import html
    from ..rehearsal import conversation

    shown = {person: conversation.as_data(picture) for person, picture in pictures.items()}
    return html.pieces(
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


_KINDS = ("post", "channel", "file", "team", "user")
_STALE = "Mattermost may show the former state until it is restarted"


@dataclass(frozen=True)
class RecoverOptions:
    """The options of recover, by the names that click gives them."""

    wanted: str
    place: str | None
    identity: Path | None
    post: str | None
    channel: str | None
    file: str | None
    team: str | None
    user: str | None
    new_place: str | None
    dry_run: bool
    restart: bool
    undo: Path | None
    trust_unsigned: str

    def asked(self) -> Asked:
        """Return what to bring back; raises UsageError unless it is one thing."""
        from ..rehearsal.recover import Asked

        given = [(kind, name) for kind in _KINDS if (name := getattr(self, kind)) is not None]
        if len(given) != 1:
            raise click.UsageError("Give one of --post, --channel, --file, --team and --user.")
        if self.new_place is not None and self.channel is None:
            raise click.UsageError("--as needs --channel.")
        return Asked(*given[0], self.new_place or "")


@click.command(epilog=SET_HELP)
@click.argument("wanted", metavar="[SET]", default=LATEST)
@click.option("--post", metavar="ID", help="A message, with its thread.")
@click.option("--channel", metavar="TEAM/CHANNEL", help="A channel, with all that is in it.")
@click.option("--file", metavar="ID", help="An upload.")
@click.option("--team", metavar="NAME", help="A team, with its channels.")
@click.option("--user", metavar="NAME", help="An account, with what Mattermost deleted with it.")
@click.option(
    "--as",
    "new_place",
    metavar="TEAM/NEW-CHANNEL",
    help="Bring the channel back under another name, or in another team.",
)
@click.option("-n", "--dry-run", is_flag=True, help="List every row; change nothing.")
@click.option("--restart", is_flag=True, help="Restart Mattermost, so that it forgets its caches.")
@click.option(
    "--undo",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take a recovery back, with the undo file that it named.",
)
@click.option(
    "--trust-unsigned",
    metavar="SET",
    default="",
    help="Use this set although its origin is not proven.",
)
@common.wait_option
@offsite.from_elsewhere
@verb
@filled(RecoverOptions)
def recover(context: Context, options: RecoverOptions) -> CommandResult:
    """Put one thing of a set back into the live Mattermost.

    What is only marked as deleted is undeleted; where it is gone, its missing rows and files come
    back. Nothing live is overwritten. --undo takes exactly that back.
    """
    from ..mattermost import detect
    from ..mattermost.journal import Journal
    from ..rehearsal import recover as recovery
    from ..restore import rollback, undo_log
    from . import hosts

    asked = options.asked() if options.undo is None else None
    context.load_everything()
    with context.only_run():
        rollback.refuse_unfinished(Journal())
        site = detect.find()
        if asked is None:
            return _undone(site, options)
        said, earlier = ([], []) if options.dry_run else recovery.resolve_interrupted(site)
        ours, store = settings_and_store(context)
        there = offsite.looked_at(ours, store, options.place, options.wanted, options.identity)
        with there as set_:
            hosts.refuse_unproven(set_, options.trust_unsigned)
            done = recovery.recover(set_, site, asked, ours.scratch_dir, dry_run=options.dry_run)
        changed = bool(earlier) or (done.changed and done.rows.rows > 0)
        fresh, stale = _refreshed(site, options, changed=changed)
        for path in [*earlier, *([done.undo] if done.undo else [])]:
            undo_log.note_state(path, "finished")
        return recovered_result(set_.name, done, options, fresh, [*said, *stale])


def _undone(site: Site, options: RecoverOptions) -> CommandResult:
    """Take a recovery back, and tell Mattermost."""
    from ..rehearsal import recover as recovery
    from ..restore import undo_log

    assert options.undo is not None
    undone = recovery.undo(site, options.undo)
    fresh, stale = _refreshed(site, options, changed=bool(undone.rows) or undone.resumed)
    undo_log.note_state(options.undo, "finished")
    return undone_result(undone, fresh, stale)


def _refreshed(
    site: Site, options: RecoverOptions, *, changed: bool
) -> tuple[bool | None, list[str]]:
    """Restart Mattermost with the operator's consent; return whether, and what to do otherwise."""
    from ..mattermost import service
    from . import terminal

    if not changed or not service.of(site).runs():
        return None, []
    agreed = options.restart
    if not agreed and terminal.interactive():
        with contextlib.suppress(Failure):
            terminal.ask([f"{_STALE}."], [], "Restart Mattermost now?", done="the rows are back")
            agreed = True
    if not agreed:
        return False, [f"{_STALE}: run {service.of(site).restart_by_hand}, or give --restart"]
    problems = service.restarted(site)
    return not problems, problems


def recovered_result(
    name: str,
    done: Recovery,
    options: RecoverOptions,
    restarted: bool | None,
    stale: Sequence[str],
) -> CommandResult:
    """Return what was put back, or with --dry-run each row that would be."""
    from ..rehearsal import described

    shown = humanize.plain(done.name)
    files = done.absent if options.dry_run else sorted(done.folder.written if done.folder else [])
    fields = {
        **described.recovered_fields(done, files),
        "set": name,
        "dry_run": options.dry_run,
        "restarted": restarted,
    }
    counts = f"{humanize.number(done.rows.rows, 'row')}, {humanize.number(len(files), 'file')}"
    if options.dry_run:
        lines = [
            f"Would bring back {done.kind} {shown}: {counts}",
            *described.recovered_lines(done, files),
        ]
    elif done.changed:
        lines = [f"Brought back {done.kind} {shown}: {counts}"]
        lines += [f"  undo: gitlab-mm recover --undo {done.undo}"]
    else:
        lines = [f"Nothing to bring back: {done.kind} {shown} is all there"]
    return CommandResult(
        fields, [*lines, *described.recovery_notes(done)], [*done.warnings, *stale], answer=True
    )


def undone_result(done: Undone, restarted: bool | None, stale: Sequence[str]) -> CommandResult:
    """Return what an undo has taken back."""
    from ..rehearsal import described

    kind, name = done.about.get("kind", ""), done.about.get("name", "")
    counts = f"{humanize.number(done.rows, 'row')}, {humanize.number(done.files, 'file')}"
    fields = {**described.undone_fields(done), "restarted": restarted}
    line = f"Took back {humanize.plain(kind)} {humanize.plain(name)}: {counts}"
    if not (done.rows or done.files):
        line = "Nothing to take back"
    return CommandResult(fields, [line], [*done.warnings, *stale], answer=True)
