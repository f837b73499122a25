"""Every option of config.yml: the one table that all which tells or checks them is made from."""

from __future__ import annotations

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
    words,
)

# The rules of a remote, and what config.yml calls them there.
KEEP_RULES = {
    one: f"keep_{one}" for one in ("last", "hourly", "daily", "weekly", "monthly", "yearly")
}

SENDERS = ("mattermost", "mail", "ping", "apprise")  # of notifications
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
        'Where sets are kept: they go to a folder "mattermost" below this path. '
        "GitLab's own backup path (gitlab_rails['backup_path'] in gitlab.rb) unless it is given.",
        path(),
        "/var/opt/gitlab/backups",
        gitlab="path",
    ),
    Option(
        "store",
        "What keeps the sets: local, the folder above, or restic, a repository: encrypted, "
        "anywhere, and a night costs what changed.",
        choice("local", "restic"),
        "local",
    ),
    Option(
        "restic",
        "The repository, with store: restic. Make it once with restic init.",
        options=(
            Option(
                "repository",
                "The repository as restic names it: a path, sftp:..., s3:..., rest:..., rclone:... "
                "With a password in its name it goes into environment_file, as RESTIC_REPOSITORY.",
                words(NO_PASSWORD, "the name of a repository, without a password in it"),
                example="/srv/restic",
            ),
            Option(
                "password_file",
                "The file with the repository's password, which only root can read.",
                path(),
                example="/etc/gitlab-mm-backup/restic-password",
            ),
            Option(
                "password_command",
                "The program that prints the password instead, and its arguments.",
                list_of(words()),
                [],
            ),
            Option(
                "environment_file",
                "A file that only root can read, with lines NAME=VALUE for restic: keys such as "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
                path(),
                example="/etc/gitlab-mm-backup/restic-environment",
            ),
            Option(
                "host",
                "The host whose sets are meant: this host's full name unless it is given. To restore "
                "what another host has kept.",
                words(r"[^\0\n,]+", "the name of a host"),
                example="gitlab.example.org",
            ),
        ),
    ),
    Option(
        "keep_time",
        "How long sets are kept: seconds, or a number with a unit (12h, 7d, 4w); 0 is for ever. "
        "The newest set is never removed. "
        "GitLab's own keep time (gitlab_rails['backup_keep_time'] in gitlab.rb) unless it is given.",
        duration(),
        0,
        gitlab="keep_time",
    ),
    Option(
        "keep",
        "Sets that stay beyond the keep time. 0: no such rule. With a rule here, a keep time of 0 "
        "is no reason to keep a set for ever.",
        options=(
            Option("last", "The last so many sets.", number(0, _MOST_KEPT), 0),
            *(
                Option(
                    name,
                    f"Of the last so many {periods} that have a set, the newest one of each.",
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
                "All sets that were made within a time (such as 14d) before the newest.",
                duration(),
                0,
            ),
        ),
    ),
    Option(
        "shrunken_below",
        "A set with no more than this share, in percent, of the teams, users, posts, uploads or bytes "
        "of uploads of the newest sound set looks emptied. It is told, and nothing is pruned until "
        "somebody accepts it. 0: only where nothing of them is left.",
        number(0, 100),
        50,
    ),
    Option(
        "files",
        "What of Mattermost's files goes into a set. full: all of them. incremental: what changed "
        "since the set before, on which the new one then builds: it is restored, verified and kept "
        "with that one, and copied with it.",
        choice(FULL, INCREMENTAL),
        FULL,
    ),
    Option(
        "full_every",
        "With files: incremental, how often a set has all files nevertheless, so that no chain of "
        "sets grows long. 0: only where it must.",
        duration(),
        "7d",
    ),
    Option(
        "offsite",
        "Where finished sets are copied, besides the place that GitLab uploads its own backups to.",
        options=(
            Option(
                "remote",
                "A remote of rclone (made by rclone config, as root) with a path, an absolute path, "
                "or gitlab, for what is to differ at GitLab's own place.",
                words(
                    _REMOTE, "a remote of rclone with a path, as nas:backups, or an absolute path"
                ),
                required=True,
            ),
            Option(
                "name",
                "What messages and --from call it; the remote's own name unless it is given.",
                words("[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "letters, digits, dots and hyphens"),
            ),
            Option(
                "rclone_config",
                "rclone's file; /root/.config/rclone/rclone.conf unless it is given.",
                path(),
            ),
            Option(
                "bandwidth",
                "Bytes in a second at most, as 10M; 0: no limit.",
                rate(),
                0,
            ),
            Option(
                "retries",
                "How often something is tried again when the connection fails, after 2, 4, 8 ... "
                "seconds.",
                number(0, _MOST_RETRIES),
                4,
            ),
            Option(
                "recipients",
                "Public keys of age. Copies are encrypted to them; any of the private keys opens them.",
                list_of(words(_RECIPIENT, "a public key: age1..., ssh-ed25519 or ssh-rsa")),
                [],
            ),
            Option(
                "add_only",
                "Remove nothing there, because the credential may not. The copies then grow until "
                "somebody else removes old ones; what the rules would remove is counted.",
                flag(),
                False,
            ),
            Option("keep_time", "As keep_time above, for the copies there.", duration()),
            *(
                Option(name, f"As keep.{rule} above.", number(0, _MOST_KEPT))
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
        "Whether finished sets are copied to where GitLab uploads its own backups "
        "(gitlab_rails['backup_upload_connection'] in gitlab.rb), to a folder mattermost there.",
        flag(),
        True,
    ),
    Option(
        "compression",
        "How hard zstd packs. More than four threads cost memory and gain little.",
        options=(
            Option(
                "database_level", "zstd's level for the database.", number(1, _HIGHEST_LEVEL), 3
            ),
            Option("files_level", "zstd's level for the files.", number(1, _HIGHEST_LEVEL), 1),
            Option(
                "threads",
                "Threads of each zstd; never more than there are processors.",
                number(1, _MOST_THREADS),
                4,
            ),
        ),
    ),
    Option(
        "jobs",
        "Sessions of PostgreSQL that load a dump at the same time, in a restore and in a "
        "rehearsal; never more than there are processors.",
        number(1, _MOST_THREADS),
        4,
    ),
    Option(
        "nice",
        "How far backups and rehearsals step back for GitLab and Mattermost: nice(1)'s number. "
        "Unless it is 0 they come last at the disk too (ionice(1)).",
        number(0, _NICEST),
        10,
    ),
    Option(
        "bandwidth",
        "The most that a backup writes in a second: a number with a unit (20M, 1G); 0 is no limit.",
        rate(),
        0,
    ),
    Option(
        "min_free",
        "Disk space that stays free: a backup, a restore or a restore test that would need it does not "
        "start, and a backup stops before it is used. A share of the disk (5%), or a number with a "
        "unit (500M, 2G); 0 is none. 5 % of the disk, at most 2 GiB, unless it is given.",
        size(),
        example="2G",
    ),
    Option(
        "database",
        "Where Mattermost's PostgreSQL answers directly, where its own DataSource leads to a connection "
        "pooler such as PgBouncer.",
        options=(
            Option(
                "host",
                "Its name, its address, or the directory of its socket; the DataSource's own unless it "
                "is given.",
                words(r"[^\0\s,]+", "the name of a host, or a directory"),
                example="/var/opt/gitlab/postgresql",
            ),
            Option(
                "port",
                "Its port; the DataSource's own unless it is given.",
                number(1, 65535),
                example="5432",
            ),
        ),
    ),
    Option(
        "allow_links",
        "Directories that a link in Mattermost's home may lead to, and that may belong to another "
        "account. Who has Mattermost's account could exchange such a link; it is followed only "
        "where root alone can change it, or where its target is named here.",
        list_of(path()),
        [],
        example="[/mnt/uploads]",
    ),
    Option(
        "accept_warnings",
        "Warnings about what a set lacks that somebody has read and taken care of: each entry is a "
        "path, a name or another text that stands in such a warning. It is still told by list, "
        "status, report and recovery-kit, but a backup with no other ends with exit code 0.",
        list_of(words(r"[^\0\n]{4,}", "a text of four characters or more")),
        [],
        example="[/srv/uploads, pg_hint_plan]",
    ),
    Option(
        "rehearse",
        "Which of the sets that cron makes are rehearsed right afterwards, that is restored into "
        "scratch and Mattermost started from them: nightly, weekly or off.",
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
        "How long a rehearsal may take at most, as 6h; each of its steps three quarters of that, a "
        "statement in its PostgreSQL half. One that takes longer is ended, and has failed. 0: an hour, "
        "and another one for each 10 GiB of database and files, at most 20 hours.",
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
                "mattermost: an incoming webhook; mail: an address, through this host's own "
                "sendmail; ping: a dead man's switch; apprise: any service that Debian's apprise knows.",
                choice(*SENDERS),
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
