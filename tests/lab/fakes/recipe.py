"""The mattermost recipe of Omnibus: user, folders, database, sign-in, configuration, service."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import accounts, attributes, gitlab_secrets, go_json, oauth, paths

if TYPE_CHECKING:
    from .reconfigure import Run

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
FOLDERS = (
    "home",
    "log_file_directory",
    "file_directory",
    "plugin_directory",
    "plugin_client_directory",
)


def enable(run: Run) -> None:
    """Bring an enabled Mattermost up to date with the attributes."""
    home = Path(run.mattermost["home"])
    accounts.ensure("mattermost", home, run.package.generation.mattermost_shell)
    make_folders(run)
    running = run.server.running()
    if running and run.mattermost["sql_driver_name"] != "mysql":
        make_database(run)
    if running and run.settings["gitlab_rails"]["enable"]:
        authorize(run)
    write_config_json(run)
    write_environment(run)
    define_service(run)
    if run.package.generation.has_version_file:
        paths.write(home / "VERSION", run.package.generation.mattermost)


def make_folders(run: Run) -> None:
    """Home, log, data and plugin folders: the original sets their owner and nothing else."""
    for key in FOLDERS:
        place = Path(run.mattermost[key])
        if not place.exists():
            paths.folder(place)
        shutil.chown(place, user=run.mattermost["username"])


def make_database(run: Run) -> None:
    """Role and database, where missing."""
    role = run.settings["postgresql"]["sql_mattermost_user"]
    run.server.ensure_role(role)
    run.server.ensure_database(run.mattermost["database_name"], role)


def authorize(run: Run) -> None:
    """Register with GitLab; a failure only warns, as in the original.

    Since 15.4 this happens while register_as_oauth_app is true and ends by making it false (as the helpers of the
    Pages and Grafana recipes do); before, while gitlab_enable is not yet stored.
    """
    mattermost, ours = run.mattermost, run.package.generation.invents_credentials
    if not (mattermost["register_as_oauth_app"] if ours else not mattermost["gitlab_enable"]):
        return
    pair = (
        (mattermost["gitlab_id"], mattermost["gitlab_secret"])
        if ours
        else gitlab_secrets.made_credentials(run.package)
    )
    try:
        identifier, secret = ask_rails(run, pair)
    except subprocess.CalledProcessError as error:
        run.report(
            f"WARN: Something went wrong while trying to update gitlab-secrets.json.\n{error.stderr}"
        )
        return
    found = {
        "gitlab_enable": True,
        "gitlab_id": identifier,
        "gitlab_secret": secret,
        "gitlab_scope": "",
    }
    run.normal["mattermost"].update({**found, "register_as_oauth_app": False} if ours else found)
    run.write_secrets()


def ask_rails(run: Run, pair: oauth.Credentials) -> oauth.Credentials:
    """Find or make the application row as GitLab's own user; CalledProcessError when GitLab's code fails."""
    database = run.settings["postgresql"]
    request = {
        "place": [
            database["unix_socket_directory"],
            database["port"],
            run.settings["gitlab_rails"]["db_database"],
        ],
        "addresses": oauth.redirect_uris(str(run.normal[""]["mattermost_external_url"])),
        "pair": pair,
        "form": run.package.secret_form,
        "ours": run.package.generation.invents_credentials,
    }
    answer = paths.run_as("git", str(paths.OPT / "bin/gitlab-rails"), stdin=json.dumps(request))
    identifier, secret = json.loads(answer.stdout)
    return identifier, secret


def write_config_json(run: Run) -> None:
    """10.x: render it every time; since 11.0: copy the template if there is no file."""
    path, generation = Path(run.mattermost["home"]) / "config.json", run.package.generation
    if generation.renders_config_json:
        text = go_json.dumps(rendered_config(run.mattermost)) + "\n"
        if paths.write(path, text, generation.config_json_mode, "mattermost"):
            run.changed.append("mattermost")
    elif not path.exists():
        template = (paths.MATTERMOST_SERVICE / "config.json.template").read_text()
        paths.write(path, template, generation.config_json_mode, "mattermost")


def rendered_config(mattermost: dict[str, Any]) -> dict[str, Any]:
    """The config.json of GitLab 10.x: every value from gitlab.rb, credentials and salts included."""
    config = copy.deepcopy(json.loads((FIXTURES / "config-4.6.json").read_text()))
    config["ServiceSettings"]["SiteURL"] = mattermost["service_site_url"]
    config["ServiceSettings"]["ListenAddress"] = (
        f"{mattermost['service_address']}:{mattermost['service_port']}"
    )
    config["TeamSettings"]["SiteName"] = mattermost["team_site_name"]
    config["SqlSettings"].update(
        DriverName=mattermost["sql_driver_name"],
        DataSource=mattermost["sql_data_source"],
        DataSourceReplicas=[mattermost["sql_data_source"]],
        AtRestEncryptKey=mattermost["sql_at_rest_encrypt_key"],
    )
    config["LogSettings"]["FileLocation"] = mattermost["log_file_directory"]
    config["FileSettings"].update(
        Directory=mattermost["file_directory"], PublicLinkSalt=mattermost["file_public_link_salt"]
    )
    config["EmailSettings"]["InviteSalt"] = mattermost["email_invite_salt"]
    config["PluginSettings"].update(
        Directory=mattermost["plugin_directory"],
        ClientDirectory=mattermost["plugin_client_directory"],
    )
    config["GitLabSettings"].update(
        Enable=bool(mattermost["gitlab_enable"]),
        Secret=mattermost.get("gitlab_secret") or "",
        Id=mattermost.get("gitlab_id") or "",
        AuthEndpoint=mattermost["gitlab_auth_endpoint"],
        TokenEndpoint=mattermost["gitlab_token_endpoint"],
        UserApiEndpoint=mattermost["gitlab_user_api_endpoint"],
    )
    return dict(config)


def write_environment(run: Run) -> None:
    """One file per variable, without a newline; files that are not ours are deleted."""
    place = attributes.environment_folder(run.mattermost)
    wanted = attributes.environment(run.package, run.mattermost)
    paths.folder(place)
    unknown = [entry for entry in place.iterdir() if entry.name not in wanted]
    for entry in unknown:
        entry.unlink()
    changes = [paths.write(place / name, value) for name, value in wanted.items()]
    if unknown or any(changes):
        run.changed.append("mattermost")
    if not run.package.generation.env_in_home:
        shutil.rmtree(Path(run.mattermost["home"]) / "env", ignore_errors=True)


def define_service(run: Run) -> None:
    """The runit service: chpst reads the environment folder and changes to the user."""
    mattermost = run.mattermost
    user = mattermost["username"]
    run.define(
        "mattermost",
        f"cd {paths.MATTERMOST_SERVICE}\n"
        f"exec chpst -e {attributes.environment_folder(mattermost)} -P -U {user}:{user} -u {user}:{user}"
        f" {paths.BIN}/mattermost --config {mattermost['home']}/config.json",
        log_owner=user,
    )
