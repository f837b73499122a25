"""The table of all options in config.yml; an example, JSON Schema and manual come from it."""

from __future__ import annotations

from .notification_channels import CHANNELS
from .options import (
    Option,
    choice,
    duration,
    flag,
    list_of,
    number,
    path,
    rate,
    secret,
    size,
    times,
    words,
)

# The retention rules of a remote, and their names in config.yml.
KEEP_RULES = {
    rule: f"keep_{rule}" for rule in ("last", "hourly", "daily", "weekly", "monthly", "yearly")
}

POLICIES = ("failure", "warning", "always", "recovery")
REHEARSALS = ("nightly", "weekly", "off")
FULL, INCREMENTAL = "full", "incremental"
_HIGHEST_LEVEL = 19  # zstd(1), without --ultra
_MOST_THREADS = 64
_MOST_KEPT = 9999
_NICEST = 19  # nice(1)
NO_PASSWORD = r"(?![^\0\n]*://[^/\0\n]*:[^/\0\n]*@)[^\0\n]+"
_MOST_RETRIES = 20
_REMOTE = r"gitlab|/[^\0\n]*|[\w.+@][\w.+@ -]*:[^\0\n]*"
# age's own keys, and the SSH keys that it takes (age(1), "RECIPIENTS AND IDENTITIES").
_RECIPIENT = r"age1[02-9ac-hj-np-z]{58}|ssh-(?:ed25519|rsa) [A-Za-z0-9+/=]+(?: [^\0\n]*)?"

OPTIONS: tuple[Option, ...] = (
    Option(
        "backup_path",
        'Directory for backup sets; they are stored in "mattermost" below this path. '
        "Default: GitLab's backup path (gitlab_rails['backup_path'] in gitlab.rb); where GitLab runs in "
        "a container, /var/backups/gitlab of this host.",
        path(),
        "/var/opt/gitlab/backups",
        gitlab="path",
    ),
    Option(
        "store",
        "Where sets are stored. local: in the directory above. restic: in a restic repository, which is "
        "encrypted and incremental, and may be on another machine.",
        choice("local", "restic"),
        "local",
    ),
    Option(
        "restic",
        "The repository for store: restic. Create it once with restic init.",
        options=(
            Option(
                "repository",
                "The repository: a path, sftp:..., s3:..., rest:..., rclone:... If the name contains a "
                "password, set RESTIC_REPOSITORY in environment_file instead.",
                words(NO_PASSWORD, "the name of a repository, without a password in it"),
                example="/srv/restic",
            ),
            Option(
                "password_file",
                "File with the repository's password; only root may be able to read it.",
                path(),
                example="/etc/gitlab-mm-backup/restic-password",
            ),
            Option(
                "password_command",
                "Program, with its arguments, that prints the password; instead of password_file.",
                list_of(words()),
                [],
            ),
            Option(
                "environment_file",
                "File with lines NAME=VALUE for restic, such as AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY; only root may be able to read it.",
                path(),
                example="/etc/gitlab-mm-backup/restic-environment",
            ),
            Option(
                "host",
                "Host name in the repository. Default: this host's full name. Set it to restore the sets "
                "of another host.",
                words(r"[^\0\n,]+", "the name of a host"),
                example="gitlab.example.org",
            ),
            Option(
                "bandwidth",
                "Limit of restic's uploads in bytes per second: a number with a unit (20M, 1G); 0: no "
                "limit.",
                rate(),
                0,
                old_outer="bandwidth",
            ),
        ),
    ),
    Option(
        "keep_time",
        "How long sets are kept: seconds, or a number with a unit (12h, 7d, 4w); 0 keeps them for ever. "
        "The newest set is never removed. "
        "Default: GitLab's keep time (gitlab_rails['backup_keep_time'] in gitlab.rb).",
        duration(),
        0,
        gitlab="keep_time",
    ),
    Option(
        "keep",
        "Retention rules for sets older than keep_time. 0: no rule. With a rule here, keep_time: 0 does "
        "not keep sets for ever.",
        options=(
            Option("last", "Keep this number of the newest sets.", number(0, _MOST_KEPT), 0),
            *(
                Option(
                    name,
                    f"Keep the newest set of each of the last {periods} that have a set: this number of them.",
                    number(0, _MOST_KEPT),
                    0,
                )
                for name, periods in (
                    ("hourly", "hours"),
                    ("daily", "days"),
                    ("weekly", "weeks"),
                    ("monthly", "months"),
                    ("yearly", "years"),
                )
            ),
            Option(
                "within",
                "Keep all sets made within this time (such as 14d) before the newest set.",
                duration(),
                0,
            ),
        ),
    ),
    Option(
        "shrunken_below",
        "Percentage. A set with at most this share of the teams, users, posts, uploads or bytes of "
        "uploads of the newest sound set looks emptied. Then the backup warns, and nothing is pruned "
        "until you accept the set (gitlab-mm prune --accept). 0: only if nothing of them is left.",
        number(0, 100),
        50,
    ),
    Option(
        "files",
        "Which of Mattermost's files a set contains. full: all files. incremental: the files that "
        "changed since the previous set. The new set depends on that one; they are restored, verified, "
        "kept and copied together.",
        choice(FULL, INCREMENTAL),
        FULL,
    ),
    Option(
        "full_every",
        "With files: incremental, how often a set contains all files, which limits the chain of sets. "
        "0: only if necessary.",
        duration(),
        "7d",
    ),
    Option(
        "schedule",
        "When scheduled backups are made, if once a night is not enough: hourly, every 15 min, every 30 "
        "min, or times of day in quarters of an hour. hourly and every need files: incremental or "
        "store: restic, where a run costs what changed. A run is skipped if nothing changed. Default: "
        "nightly, at the time in /etc/cron.d/gitlab-mm-backup or of gitlab-mm-backup.timer.",
        times(),
        example="every 15 min",
    ),
    Option(
        "offsite",
        "Remotes to which finished sets are copied, in addition to the one where GitLab uploads its own "
        "backups.",
        options=(
            Option(
                "remote",
                "An rclone remote with a path (created by root with rclone config), an absolute path, or "
                "gitlab, to set options of GitLab's own remote.",
                words(
                    _REMOTE, "a remote of rclone with a path, as nas:backups, or an absolute path"
                ),
                required=True,
            ),
            Option(
                "name",
                "Name for messages and --from. Default: the name of the rclone remote.",
                words("[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "letters, digits, dots and hyphens"),
            ),
            Option(
                "rclone_config",
                "Configuration file of rclone. Default: /root/.config/rclone/rclone.conf.",
                path(),
            ),
            Option(
                "bandwidth",
                "Limit in bytes per second, such as 10M; 0: no limit.",
                rate(),
                0,
            ),
            Option(
                "retries",
                "Number of retries if the connection fails, after 2, 4, 8 ... seconds.",
                number(0, _MOST_RETRIES),
                4,
            ),
            Option(
                "recipients",
                "Public keys of age. Copies are encrypted; any of the private keys decrypts them.",
                list_of(words(_RECIPIENT, "a public key: age1..., ssh-ed25519 or ssh-rsa")),
                [],
            ),
            Option(
                "add_only",
                "Remove nothing at this remote, for credentials without delete permission. The copies use "
                "more space until someone removes old ones; messages count the copies beyond the rules.",
                flag(),
                False,
            ),
            Option("keep_time", "Like keep_time above, for the copies at this remote.", duration()),
            *(
                Option(name, f"Like keep.{rule} above.", number(0, _MOST_KEPT))
                for rule, name in KEEP_RULES.items()
            ),
        ),
        several=True,
        example="""
            - remote: nas:backups/mattermost
              bandwidth: 10M
              keep_time: 12w
        """,
    ),
    Option(
        "follow_gitlab",
        "Whether finished sets are also copied to the remote where GitLab uploads its own backups "
        "(gitlab_rails['backup_upload_connection'] in gitlab.rb), into the directory mattermost.",
        flag(),
        True,
    ),
    Option(
        "secrets_in_sets",
        "Whether a set also contains the files of this configuration that have secrets: config.yml "
        "or a file of config.d with notifications, rclone's configuration file, and restic's "
        "password_file and environment_file. false: only in a restic repository, which is encrypted. "
        "With true, anyone who can read a set or an unencrypted copy can read these secrets.",
        flag(),
        False,
    ),
    Option(
        "compression",
        "Compression by zstd. More than four threads need memory and gain little.",
        options=(
            Option(
                "database_level", "Compression level of the database.", number(1, _HIGHEST_LEVEL), 3
            ),
            Option("files_level", "Compression level of the files.", number(1, _HIGHEST_LEVEL), 1),
            Option(
                "threads",
                "Threads of each zstd, at most one per processor.",
                number(1, _MOST_THREADS),
                4,
            ),
        ),
    ),
    Option(
        "jobs",
        "PostgreSQL sessions that load a dump in parallel, in a restore and in a rehearsal; at most one "
        "per processor.",
        number(1, _MOST_THREADS),
        4,
    ),
    Option(
        "nice",
        "Process priority of backups and rehearsals (nice(1)). Unless it is 0, they also have the lowest "
        "disk priority (ionice(1)).",
        number(0, _NICEST),
        10,
    ),
    Option(
        "min_free",
        "Disk space that stays free: a backup, a restore or a restore test that would need it does not "
        "start, and a backup stops before it is used. A share of the disk (5%), or a number with a "
        "unit (500M, 2G); 0: none. Default: 5 % of the disk, at most 2 GiB.",
        size(),
        example="2G",
    ),
    Option(
        "database",
        "Address of Mattermost's PostgreSQL, if its DataSource points to a connection pooler such as "
        "PgBouncer.",
        options=(
            Option(
                "host",
                "Host name, address, or directory of the socket. Default: as in the DataSource.",
                words(r"[^\0\s,]+", "the name of a host, or a directory"),
                example="/var/opt/gitlab/postgresql",
            ),
            Option(
                "port",
                "Port. Default: as in the DataSource.",
                number(1, 65535),
                example="5432",
            ),
        ),
    ),
    Option(
        "container",
        "Name of the container that GitLab or Mattermost runs in, if there are several on this host, or "
        "GitLab is also installed here as a package. Default: the only one.",
        words(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "the name of a container"),
        example="gitlab",
    ),
    Option(
        "allow_links",
        "Directories to which symbolic links in Mattermost's home may point, and that may belong to "
        "another account. A link is followed only if root alone can change it, or if its target is "
        "listed here, because Mattermost's account could replace such a link.",
        list_of(path()),
        [],
        example="[/mnt/uploads]",
    ),
    Option(
        "accept_warnings",
        "Accepted warnings about data that is missing in a set. Each entry is a path, a name or another "
        "text that such a warning contains. The warning is still shown by list, "
        "status, report and recovery-kit, but a backup without other warnings ends with exit code 0. "
        "'off-site copies' accepts that no off-site copies are configured.",
        list_of(words(r"[^\0\n]{4,}", "a text of four characters or more")),
        [],
        example="[/srv/uploads, pg_hint_plan]",
    ),
    Option(
        "rehearse",
        "How often a scheduled backup is followed by a rehearsal: a test restore into a temporary "
        "PostgreSQL and directory, in which Mattermost is started. nightly, weekly or off.",
        choice(*REHEARSALS),
        "nightly",
    ),
    Option(
        "scratch_dir",
        "Directory in which a rehearsal unpacks. It needs disk space for the files and the database, "
        "and a quarter more. Everything in it is removed when the rehearsal ends.",
        path(),
        "/var/lib/gitlab-mm-backup",
        old_name="rehearse_in",
    ),
    Option(
        "rehearse_timeout",
        "Time limit of a rehearsal, such as 6h; a rehearsal that takes longer is ended and fails. Each "
        "step may take three quarters of it, and each SQL statement half. 0: one hour, plus one hour for "
        "each 10 GiB of database and files, at most 20 hours.",
        duration(),
        0,
    ),
    Option(
        "upgrade_gate",
        "The check before apt upgrades GitLab. block: back up first, and stop an upgrade to 19 or "
        "later, which removes Mattermost, if there are teams or users but no verified backup set "
        "newer than a day. warn: the same, but apt is never stopped. off: no check.",
        choice("block", "warn", "off"),
        "block",
        old_name="gate",
    ),
    Option(
        "notifications",
        "Where to send the result of each backup, rehearsal, restore, prune and sign-in repair. A "
        "notification that cannot be sent does not fail the run. A ping gets every start and end, as "
        "healthchecks.io expects.",
        options=(
            Option(
                "type",
                "; ".join(f"{name}: {channel.address}" for name, channel in CHANNELS.items()) + ".",
                choice(*CHANNELS),
                required=True,
                old_name="kind",
            ),
            Option("to", "The URL or e-mail address. It is never shown.", secret(), required=True),
            Option(
                "on",
                "failure; warning: failures and warnings; always; recovery: failures, and the first "
                "successful run after one.",
                choice(*POLICIES),
                "failure",
                old_name="when",
            ),
        ),
        several=True,
        old_name="notices",
        example="""
            - type: mattermost
              to: https://mattermost.example.org/hooks/xxx
              on: recovery
            - type: mail
              to: admin@example.org
        """,
    ),
)
