"""Lines of gitlab.rb that concern Mattermost, found without running any of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import gitlab_rb

RUBY = """\
external_url 'https://git.example.org'
# mattermost_external_url 'https://old.example.org'
mattermost_external_url 'https://mm.example.org' # mattermost['x'] = 1
  mattermost["sql_data_source"] = "user=x password=#hush"
mattermost['env'] = {
  'MM_A' => '}',
  'MM_B' => '{ # no comment'
}
mattermost [ 'team_site_name' ] = 'a' \\
  'b'
gitlab_rails['mattermost_host'] = 'https://mm.example.org'
nginx['x'] = "mattermost['in quotes']"
mattermost_nginx['enable'] = false
=begin
mattermost['enable'] = true
=end
mattermost['enable'] = ENV.fetch('X') if File.exist?('/etc/x')
from_file '/etc/gitlab/more.rb'
from_file "beside.rb"
from_file ENV['ELSEWHERE']
__END__
mattermost['after'] = 1
"""


def write(root: Path, name: str, text: str) -> None:
    path = root / "etc/gitlab" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_every_setting_is_found_with_its_file_and_lines(tmp_path: Path) -> None:
    write(tmp_path, "gitlab.rb", RUBY)
    write(
        tmp_path, "more.rb", "\nmattermost['home'] = '/srv/mm'\nfrom_file '/etc/gitlab/gitlab.rb'\n"
    )
    write(tmp_path, "beside.rb", "mattermost['group'] = 'mm'")
    found = [
        (setting.file.name, setting.first, setting.last, setting.name)
        for setting in gitlab_rb.settings(tmp_path)
    ]
    assert found == [
        ("gitlab.rb", 3, 3, "mattermost_external_url"),
        ("gitlab.rb", 4, 4, "mattermost['sql_data_source']"),
        ("gitlab.rb", 5, 8, "mattermost['env']"),
        ("gitlab.rb", 9, 10, "mattermost['team_site_name']"),
        ("gitlab.rb", 13, 13, "mattermost_nginx['enable']"),
        ("gitlab.rb", 17, 17, "mattermost['enable']"),
        ("more.rb", 2, 2, "mattermost['home']"),
        ("beside.rb", 1, 1, "mattermost['group']"),
    ]


def test_values_are_never_told(tmp_path: Path) -> None:
    write(tmp_path, "gitlab.rb", "mattermost['gitlab_secret'] = 'hush'\n")
    (setting,) = gitlab_rb.settings(tmp_path)
    assert str(setting) == f"{tmp_path}/etc/gitlab/gitlab.rb line 1: mattermost['gitlab_secret']"


def test_a_bracket_that_never_closes_ends_somewhere(tmp_path: Path) -> None:
    write(tmp_path, "gitlab.rb", "mattermost['env'] = {\n'A' => 1\n")
    (setting,) = gitlab_rb.settings(tmp_path)
    assert (setting.first, setting.last) == (1, 1)


def test_no_file_has_no_setting_and_one_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert gitlab_rb.settings(tmp_path) == []
    (tmp_path / "etc/gitlab/gitlab.rb").mkdir(parents=True)
    with pytest.raises(Failure, match="cannot be read"):
        gitlab_rb.settings(tmp_path)


def test_literals_alone_are_understood() -> None:
    assert gitlab_rb.literals(RUBY) == {"external_url": "https://mm.example.org"}
    assert gitlab_rb.literals("mattermost['home'] = '/a'\nmattermost['home'] = \"/b\" # c\n") == {
        "home": "/b"
    }
    assert gitlab_rb.literals("mattermost['home'] = '/a' + x\n#mattermost['home'] = '/c'") == {}
