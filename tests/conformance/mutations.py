"""Copies of the stand-in: of another version, or with one edge broken.

Each mutation is a small change of text, and the check that must notice it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.layout import ENTRY
from tests.lab.omnibus import Omnibus

CODE = "/opt/gitlab/embedded/lib/lab"


@dataclass(frozen=True)
class Mutation:
    """A change of one module of tests/lab/fakes."""

    check: str
    module: str
    old: str
    new: str

    def __str__(self) -> str:
        return self.check


def variant(gitlab: Omnibus, name: str, version: str, mutation: Mutation | None = None) -> str:
    """Copy the stand-in, of ``version``, with a change; give its program. The text to change must be there once."""
    lab, place = gitlab.lab, f"/srv/variants/{name}"
    lab.run("mkdir", "-p", "/srv/variants")
    lab.run("cp", "-r", "--preserve=timestamps,mode", CODE, place)
    lab.write(f"{place}/mattermost-version", version)
    lab.write(f"{place}/mattermost", ENTRY.format(code=place, module="mattermost"), mode=0o755)
    if mutation is not None:
        path = lab.path(f"{place}/fakes/{mutation.module}.py")
        text = path.read_text()
        assert text.count(mutation.old) == 1, (
            f"{mutation.module}: {text.count(mutation.old)} times: {mutation.old}"
        )
        path.write_text(text.replace(mutation.old, mutation.new))
    return f"{place}/mattermost"


_CONFIG, _SERVER, _API = "mattermost_config", "mattermost", "mattermost_api"
_SCHEMA, _FILES, _LOGIN, _DATA = (
    f"mattermost_{name}" for name in ("schema", "files", "login", "data")
)
_OF_SETTINGS = (
    Mutation("environment_wins", _CONFIG, "if text is not None", 'if text and key != "SiteName"'),
    Mutation(
        "environment_types",
        _CONFIG,
        "{name.upper(): text for name, text in environment.items()}",
        "dict(environment)",
    ),
    Mutation(
        "environment_as_the_product_reads_it",
        _CONFIG,
        "BOOLEANS.get(text, like)",
        "BOOLEANS.get(text, False)",
    ),
    Mutation(
        "environment_is_not_written", _CONFIG, "save(path, config, 0o", "save(path, in_force, 0o"
    ),
    Mutation(
        "config_is_completed", _CONFIG, "given.get(key.casefold(), usual)", "given.get(key, usual)"
    ),
    Mutation(
        "config_has_what_a_rehearsal_overrides",
        _CONFIG,
        "        for name, section in known.items()\n",
        '        for name, section in known.items()\n        if name != "JobSettings"\n',
    ),
    Mutation("config_is_corrected", _CONFIG, '.rstrip("/") + "/"', ""),
    Mutation("config_salts_are_made", _CONFIG, "range(32)", "range(31)"),
    Mutation("config_has_gos_form", "go_json", "indent=4", "indent=2"),
    Mutation(
        "config_is_written_in_place",
        _CONFIG,
        "    with os.fdopen(",
        "    path.unlink(missing_ok=True)\n    with os.fdopen(",
    ),
    Mutation("config_is_written_at_each_start", _CONFIG, "salted or version >= (5, 10)", "salted"),
    Mutation("config_that_is_missing_is_made", _CONFIG, "FileNotFoundError", "IndexError"),
    Mutation("config_that_is_unreadable_ends_it", _SERVER, 'f"Error: {reason}"', "reason"),
    Mutation(
        "config_that_cannot_be_written_ends_it",
        _CONFIG,
        'raise Refused(f"failed to persist',
        'print(f"',
    ),
    Mutation("client_config_by_version", _API, '"Version": self._version', '"Version": "lab"'),
    Mutation("version_is_told", _SERVER, 'f"Version: {version}', 'f"Mattermost {version}'),
)
_OF_ANSWERS = (
    Mutation("ping_by_version", _API, '["ActiveSearchBackend"] if', '["SearchBackend"] if'),
    Mutation("ping_tells_of_database_and_files", _API, "filestore_status=", "files_status="),
    Mutation(
        "ping_tells_of_a_database_that_is_away",
        _API,
        "except psycopg.Error:\n            return False",
        "except psycopg.Error:\n            return True",
    ),
    Mutation(
        "ping_tells_of_files_that_cannot_be_written",
        _API,
        "except OSError:\n            return False",
        "except OSError:\n            return True",
    ),
    Mutation("listener_forms", _SERVER, 'every = "::" if', 'every = "127.0.0.1" if'),
    Mutation("listeners_that_are_refused", _CONFIG, "invalid config", "odd config"),
    Mutation(
        "listener_that_is_occupied",
        _SERVER,
        'log("critical", reason)\n        return ended(reason)',
        'log("critical", reason)\n        return 0',
    ),
    Mutation(
        "listener_below_a_path",
        _SERVER,
        'return redirect((path + request.target).rstrip("/"))',
        "return whole(request)",
    ),
    Mutation(
        "listener_with_tls",
        _SERVER,
        '["ConnectionSecurity"] == "TLS"',
        '["ConnectionSecurity"] == "tls"',
    ),
    Mutation("front_page", _SERVER, 'answer.content_type = "text/html"', "pass"),
    Mutation(
        "websocket_by_origin",
        "mattermost_websocket",
        "return origin in allowed.split()",
        "return True",
    ),
    Mutation("log_is_json", _SERVER, "print(line, file=stream", "print(message, file=stream"),
)
_OF_TABLES = (
    Mutation(
        "database_that_is_missing_is_waited_for",
        _SERVER,
        '"error",\n                "Failed to ping DB"',
        '"warn",\n                "Failed to ping DB"',
    ),
    Mutation("database_has_its_migrations", _SCHEMA, "(row[0], row[1])", "(row[0] + 1, row[1])"),
    Mutation(
        "database_tells_which_installation_it_is",
        _SCHEMA,
        "INSERT INTO systems VALUES ('DiagnosticId'",
        "INSERT INTO systems VALUES ('Installation'",
    ),
    Mutation("database_of_a_later_version", _SCHEMA, "2 * len(migrations", "len(migrations"),
    Mutation(
        "indexes_may_be_missing",
        _SCHEMA,
        "    refuse_later(connection, version)\n",
        '    connection.execute("CREATE INDEX IF NOT EXISTS idx_posts_message_txt ON posts (id)")\n',
    ),
    Mutation(
        "tables_are_those_of_real_servers",
        _SCHEMA,
        "ADD COLUMN threaddeleteat bigint",
        "ADD COLUMN threaddeleteat integer",
    ),
    Mutation("tables_of_the_lists", _SCHEMA, "CREATE TABLE drafts (", "CREATE TABLE draft ("),
)
_OF_FILES = (
    Mutation("upload_layout", _FILES, "teams/noteam/channels", "teams/channels"),
    Mutation("upload_previews", _FILES, "_thumb.{kind}", "_small.{kind}"),
    Mutation("upload_modes", _FILES, "folder.mkdir(0o750)", "folder.mkdir(0o755)"),
    Mutation(
        "upload_belongs_to_its_post",
        _DATA,
        "UPDATE fileinfo SET postid",
        "UPDATE fileinfo SET content",
    ),
    Mutation("pictures_of_people_and_emoji", _API, "/profile.png", "/face.png"),
)
_OF_SIGN_IN = (
    Mutation("begins_at_gitlab", _LOGIN, '"response_type": "code"', '"response_type": "token"'),
    Mutation(
        "ends_with_a_session",
        _LOGIN,
        "redirect(host_of(request), 307)",
        "redirect(host_of(request))",
    ),
    Mutation(
        "names_the_host_that_was_asked",
        _LOGIN,
        '"redirect_uri": address',
        '"redirect_uri": self._redirect_uri(request)',
    ),
    Mutation(
        "ends_at_an_error_page_without_a_code",
        _LOGIN,
        'return error_page("oauth_missing_code")',
        'return page(400, "Mattermost", "no code")',
    ),
    Mutation("state_must_be_ours", _LOGIN, "if row is None or row", "if row is not None and row"),
    Mutation(
        "state_must_be_of_this_browser",
        _LOGIN,
        "if not secrets.compare_digest(",
        "if secrets.compare_digest('', 'x') and not secrets.compare_digest(",
    ),
    Mutation(
        "state_is_good_once",
        _LOGIN,
        'connection.execute("DELETE FROM tokens WHERE token = %s", [token])',
        "pass",
    ),
    Mutation("secret_that_gitlab_refuses", _LOGIN, '"Bad response from token request"', '"No"'),
    Mutation("sign_in_that_is_switched_off", _LOGIN, 'if not self._gitlab["Enable"]', "if False"),
    Mutation("session_by_hand", _DATA, 'or 0 < session["expiresat"]', 'or session["expiresat"]'),
    Mutation(
        "session_needs_its_csrf_token",
        _API,
        "forged = not request.bearer and not self._same_page(request, connection)",
        "forged = False",
    ),
    Mutation(
        "session_that_is_unknown",
        _API,
        '401,\n                            "api.context.session_expired"',
        '403,\n                            "api.context.session_expired"',
    ),
)
MUTATIONS = (*_OF_SETTINGS, *_OF_ANSWERS, *_OF_TABLES, *_OF_FILES, *_OF_SIGN_IN)
