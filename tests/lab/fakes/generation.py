"""What differs between GitLab versions, as far as the bundled Mattermost is concerned.

Every figure is from omnibus-gitlab read at its tags. Versions between the listed ones take the entry below them.
"""

from __future__ import annotations

from typing import NamedTuple

Version = tuple[int, ...]

BUNDLED_MATTERMOST: dict[Version, str] = {
    (10, 0): "4.2.0",
    (10, 5): "4.6.2",
    (10, 8): "4.9.1",
    (11, 0): "4.10.1",
    (11, 3): "5.2.1",
    (11, 11): "5.10.0",
    (12, 0): "5.11.0",
    (12, 10): "5.21.0",
    (13, 0): "5.22.2",
    (13, 12): "5.34.2",
    (14, 0): "5.35.3",
    (14, 6): "6.1.0",
    (14, 10): "6.5.0",
    (15, 0): "6.6.1",
    (15, 11): "7.9.1",
    (16, 0): "7.10.0",
    (16, 11): "9.6.1",
    (17, 0): "9.7.1",
    (17, 11): "10.6.1",
    (18, 0): "10.7.1",
    (18, 8): "10.11.12",
    (18, 9, 8): "10.11.17",
    (18, 11, 4): "10.11.18",
    (18, 11, 5): "10.11.19",
    (18, 11, 7): "10.11.20",
}


def version_tuple(text: str) -> Version:
    """Turn "18.11.9" (or "10.5.x", where x counts as 0) into numbers that compare."""
    return tuple(int(part) if part.isdigit() else 0 for part in text.split("."))


class Generation(NamedTuple):
    """Answers the questions "how does this GitLab do it?"; the version is complete, like "18.11.9"."""

    version: str

    @property
    def numbers(self) -> Version:
        """The version as numbers."""
        return version_tuple(self.version)

    @property
    def mattermost(self) -> str:
        """The version of the bundled Mattermost."""
        return [mine for since, mine in BUNDLED_MATTERMOST.items() if since <= self.numbers][-1]

    @property
    def bundles_mattermost(self) -> bool:
        """19.0 has none any more."""
        return self.numbers < (19, 0)

    @property
    def aborts_over_any_setting(self) -> bool:
        """19.0.0 to 19.0.8, 19.1.0 to 19.1.6 and 19.2.0 to 19.2.4: even over enable=false."""
        last = {(19, 0): 8, (19, 1): 6, (19, 2): 4}.get((self.numbers[0], self.numbers[1]))
        return last is not None and self.numbers[2] <= last

    @property
    def renders_config_json(self) -> bool:
        """10.x writes config.json anew on every reconfigure; since 11.0 only when it is missing."""
        return self.numbers < (11, 0)

    @property
    def env_in_home(self) -> bool:
        """Until 11.5 the environment folder is `<home>/env`, then /opt/gitlab/etc/mattermost/env."""
        return self.numbers < (11, 6)

    @property
    def config_json_mode(self) -> int:
        """0644 for 10.x and 11.0, 0600 later."""
        return 0o644 if self.numbers < (11, 1) else 0o600

    @property
    def mattermost_shell(self) -> str:
        """Login shell of the mattermost user."""
        return "/usr/sbin/nologin" if self.numbers >= (17, 8) else "/bin/sh"

    @property
    def default_secret_form(self) -> str:
        """How GitLab stores the secret of a new application."""
        return "pbkdf2" if self.numbers >= (15, 9) else "plain"

    @property
    def invents_credentials(self) -> bool:
        """Since 15.4 Omnibus makes id and secret itself; before, it reads back what GitLab made."""
        return self.numbers >= (15, 4)

    @property
    def rails_key(self) -> str:
        """The name of the gitlab_rails section in the node file."""
        return "gitlab_rails" if self.numbers >= (15, 11) else "gitlab-rails"

    @property
    def postgresql_on_top(self) -> bool:
        """Whether the node file has postgresql at its top level (12.0 on) or below gitlab."""
        return self.numbers >= (12, 0)

    @property
    def has_public_attributes(self) -> bool:
        """public_attributes.json exists since 10.6."""
        return self.numbers >= (10, 6)

    @property
    def has_version_file(self) -> bool:
        """`<home>/VERSION` exists since 12.0."""
        return self.numbers >= (12, 0)

    @property
    def has_backup_etc(self) -> bool:
        """`gitlab-ctl backup-etc` exists since 12.3."""
        return self.numbers >= (12, 3)

    @property
    def status_code_tells(self) -> bool:
        """Since 11.8 `gitlab-ctl status` ends with 3 for a stopped service; before, it told of the log service."""
        return self.numbers >= (11, 8)

    @property
    def web_service(self) -> str:
        """The runit service that serves GitLab's pages."""
        return "puma" if self.numbers >= (13, 0) else "unicorn"
