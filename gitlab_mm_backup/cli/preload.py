"""Imports everything a job may need before the job starts.

If the package is upgraded while a job runs, its modules and templates change or disappear.
A test compares these imports with the list of all modules.
"""

# ruff: noqa: F401

from __future__ import annotations

import cryptography.hazmat.primitives.asymmetric.ed25519

from .. import checks, clock, errors, result, streams, translation, version
from ..backup import (
    absence,
    attributes,
    baseline,
    configuration,
    database,
    description,
    from_disk,
    incremental,
    live,
    parts,
    room,
    salvage,
    schedule,
    targets,
    unchanged,
)
from ..backup import job as backup_job
from ..config import (
    config_file,
    gitlab_yml,
    hooks,
    identity,
    keys,
    notification_channels,
    option_text,
    options,
    origin,
    places,
    retention,
    schema,
    secret_files,
    settings,
)
from ..config import schedule as config_schedule
from ..container import compose, engine, image, mounts, selection, view
from ..container import service as container_service
from ..health import (
    doctor,
    html,
    lights,
    lines,
    metrics,
    notify,
    publish,
    rating,
    remarks,
    report,
    running,
    scheduler,
    set_lights,
    status,
    summary,
    upgrade_check,
    upgrade_gate,
)
from ..mattermost import (
    detect,
    effective_config,
    gate,
    gitlab_rb,
    guest,
    journal,
    json_file,
    json_text,
    listener,
    omnibus,
    omnibus_files,
    owned_rows,
    service,
    site,
    staged_rows,
    standalone,
    trust,
)
from ..offsite import (
    age,
    bound,
    copied_frames,
    copies,
    download,
    gitlab_upload,
    ledger,
    package,
    rclone,
    recovery_kit,
    sync,
    upload,
)
from ..postgresql import (
    answers,
    catalog,
    clients,
    connection,
    contents,
    data_source,
    dump,
    dump_contents,
    endpoint,
    index_builds,
    load,
    names,
    provisions,
    restorable,
    scratch,
    swap,
    unkept,
)
from ..rehearsal import (
    boot,
    bulk_import,
    conversation,
    counts,
    described,
    difference,
    directory,
    dump_rows,
    extraction,
    integrity,
    limits,
    opened,
    output_folder,
    recover,
    search,
)
from ..rehearsal import checks as rehearsal_checks
from ..rehearsal import job as rehearsal_job
from ..restore import (
    choice,
    earlier_uploads,
    folder_swap,
    live_rows,
    plan,
    preflight,
    preview,
    replacing,
    rollback,
    search_index,
    source,
    undo_log,
    unpack,
    uploads_later,
    version_rules,
)
from ..restore import configuration as restore_configuration
from ..restore import job as restore_job
from ..sso import accounts, advice, check, credentials, oauth, repair, stored_secret
from ..store import (
    archive_reader,
    archive_rules,
    archive_writer,
    check_records,
    file_list,
    frame_index,
    frames,
    inventory,
    local,
    manifest,
    properties,
    prune,
    restic,
    restic_set,
    restic_store,
    sets,
    soundness,
    verify,
)
from ..system import (
    disk_space,
    environment,
    files,
    humanize,
    lock,
    log,
    namespaces,
    parallel,
    private_files,
    process,
    progress,
    redaction,
    sandbox,
    signals,
    validation,
)


def everything() -> None:
    """Load the libraries and files that are otherwise loaded on first use."""
    import jsonpatch
    import psycopg
    import yaml
    from psycopg import conninfo, sql

    version_rules.load()
    process.program_of_ours("cleanup.py")
    process.program_of_ours("nolinks.py")
    clients.own_search_path()
