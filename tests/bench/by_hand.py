"""What somebody types instead of our command, in bash."""

from __future__ import annotations

import re

from tests.lab.disks import CHECKOUT

FOLDER = "/var/opt/gitlab/by-hand"
DATABASE = "mattermost_production"
RECIPE = CHECKOUT / "docs/by-hand.md"
JOBS = "$(($(nproc) < 4 ? $(nproc) : 4))"
#: As docs/by-hand.md names them.
NAMES = f"""
pg="/opt/gitlab/embedded/bin/chpst -u gitlab-psql:gitlab-psql /opt/gitlab/embedded/bin"
at="-h /var/opt/gitlab/postgresql -p 5432"
export PGOPTIONS="-c statement_timeout=0"
out={FOLDER}
answered() {{
    until curl --silent --fail --output /dev/null http://127.0.0.1:8065/api/v4/system/ping; do sleep 0.02; done
}}
"""
CLEAN = "rm -rf $out; mkdir -m 0755 $out"

#: The script that this project replaces: one thing after the other.
SEED_DATABASE = f"(cd /tmp && $pg/pg_dump $at -Fc {DATABASE}) >$out/database.dump"
SEED_FILES = 'tar acf $out/files.tar.xz -C / "${@:-var/opt/gitlab/mattermost}"'
SEED_ETC = "tar cf $out/etc.tar -C / etc/gitlab"

#: The same producers and levels as ours at the same time, with sums, and all of it on the disk.
AT_ONCE = f"""
(cd /tmp && $pg/pg_dump $at -Fc -Z0 {DATABASE}) | zstd -q -T0 -3 |
    tee $out/database.dump.zst | openssl dgst -sha256 -r >$out/database.sum &
database=$!
tar -c -b 512 -C / var/opt/gitlab/mattermost | zstd -q -T0 -1 |
    tee $out/files.tar.zst | openssl dgst -sha256 -r >$out/files.sum &
files=$!
tar -c -b 512 -C / --exclude=etc/gitlab/config_backup etc/gitlab | zstd -q -1 |
    tee $out/etc-gitlab.tar.zst | openssl dgst -sha256 -r >$out/etc.sum
wait $database
wait $files
sync $out/*
"""

#: At its best: pg_restore with jobs from a file, files unpacked beside it. $1 is the set.
BEST_RESTORE = f"""
gitlab-ctl stop mattermost >/dev/null
mkdir $out/new
zstd -q -dc $1/files.tar.zst | tar -x -b 512 -p --same-owner -C $out/new &
files=$!
(cd /tmp && $pg/createdb $at -O gitlab_mattermost -T template0 mattermost_new)
zstd -q -dc $1/database.dump.zst >$out/database.dump
(cd /tmp && $pg/pg_restore $at --no-owner --no-acl --role=gitlab_mattermost --exit-on-error -j {JOBS} \\
    -d mattermost_new $out/database.dump)
(cd /tmp && $pg/psql $at -q -d mattermost_new -c ANALYZE)
wait $files
(cd /tmp && $pg/psql $at -q -d postgres \\
    -c 'ALTER DATABASE {DATABASE} RENAME TO mattermost_before' \\
    -c 'ALTER DATABASE mattermost_new RENAME TO {DATABASE}')
mv /var/opt/gitlab/mattermost /var/opt/gitlab/mattermost.before
mv $out/new/var/opt/gitlab/mattermost /var/opt/gitlab/mattermost
gitlab-ctl start mattermost >/dev/null
answered
"""
#: What a restore by hand leaves, removed afterwards and not counted.
CLEAN_RESTORE = """
rm -rf /var/opt/gitlab/mattermost.before
(cd /tmp && $pg/dropdb $at --if-exists mattermost_before)
"""

#: pg_restore with one job from the compressed stream, into a new database. $1 is the set.
ONE_JOB = """
(cd /tmp && $pg/createdb $at -O gitlab_mattermost -T template0 mattermost_try)
zstd -q -dc $1/database.dump.zst | (cd /tmp && $pg/pg_restore $at --no-owner --no-acl \\
    --role=gitlab_mattermost --exit-on-error -d mattermost_try)
"""
CLEAN_ONE_JOB = "(cd /tmp && $pg/dropdb $at --if-exists mattermost_try)"

#: Everything that a set's files part has, to find one upload in it. $1 is the set.
UNPACKED = "mkdir $out/all; zstd -q -dc $1/files.tar.zst | tar -x -b 512 -C $out/all"
#: The same part in one frame, counted. $1 is the set.
ONE_FRAME = "zstd -q -dc $1/files.tar.zst | zstd -q -T0 -1 | wc -c"

#: Mattermost's own start, from the command to the answered ping.
START = "gitlab-ctl start mattermost >/dev/null; answered"


def recipe(set_path: str) -> str:
    """The restore of docs/by-hand.md, up to the answered ping.

    Without its reconfigure: the lab's takes seconds where GitLab's takes minutes.
    """
    restoring = re.findall(r"```sh\n(.*?)```", RECIPE.read_text(encoding="utf-8"), re.DOTALL)[0]
    script = re.sub(r"cd /path/to/\S+", f"cd {set_path}", restoring)
    return script.replace("gitlab-ctl reconfigure\n", "") + "answered\n"
