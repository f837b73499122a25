"""config.json overlaid by the MM_* environment, as Mattermost does it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.mattermost.effective_config import EffectiveConfig, overlay
from gitlab_mm_backup.system.redaction import Secret

CONFIG: dict[str, Any] = {
    "ServiceSettings": {
        "SiteURL": "",
        "ListenAddress": ":8065",
        "EnableTesting": False,
        "EnableCommands": True,
        "ReadTimeout": 300,
        "TLSOverwriteCiphers": ["old"],
        "Nothing": None,
    },
    "SqlSettings": {"DriverName": "mysql", "DataSource": "mmuser:mostest@tcp(x)/y"},
    "FeatureFlags": None,
}


def over(**environment: str) -> EffectiveConfig:
    return overlay(CONFIG, {name: Secret(value) for name, value in environment.items()})


@pytest.mark.parametrize(
    ("variable", "value", "section", "key", "wanted"),
    [
        ("MM_SERVICESETTINGS_SITEURL", "https://chat", "ServiceSettings", "SiteURL", "https://chat"),
        ("MM_SERVICESETTINGS_ENABLETESTING", "true", "ServiceSettings", "EnableTesting", True),
        ("MM_SERVICESETTINGS_ENABLETESTING", "1", "ServiceSettings", "EnableTesting", True),
        ("MM_SERVICESETTINGS_ENABLETESTING", "T", "ServiceSettings", "EnableTesting", True),
        ("MM_SERVICESETTINGS_ENABLECOMMANDS", "false", "ServiceSettings", "EnableCommands", False),
        ("MM_SERVICESETTINGS_ENABLECOMMANDS", "F", "ServiceSettings", "EnableCommands", False),
        ("MM_SERVICESETTINGS_ENABLECOMMANDS", "perhaps", "ServiceSettings", "EnableCommands", True),
        ("MM_SERVICESETTINGS_ENABLECOMMANDS", "", "ServiceSettings", "EnableCommands", True),
        ("MM_SERVICESETTINGS_READTIMEOUT", "many", "ServiceSettings", "ReadTimeout", 300),
        ("MM_SERVICESETTINGS_READTIMEOUT", " 5", "ServiceSettings", "ReadTimeout", 300),
        ("MM_SERVICESETTINGS_READTIMEOUT", "+5", "ServiceSettings", "ReadTimeout", 5),
        ("MM_SERVICESETTINGS_READTIMEOUT", "30", "ServiceSettings", "ReadTimeout", 30),
        (
            "MM_SERVICESETTINGS_TLSOVERWRITECIPHERS",
            "a b c",
            "ServiceSettings",
            "TLSOverwriteCiphers",
            ["a", "b", "c"],
        ),
        ("MM_SERVICESETTINGS_NOTHING", "now", "ServiceSettings", "Nothing", "now"),
        ("MM_SQLSETTINGS_DRIVERNAME", "postgres", "SqlSettings", "DriverName", "postgres"),
        ("MM_GITLABSETTINGS_SECRET", "s3cret", "GitLabSettings", "Secret", "s3cret"),
        ("MM_GITLABSETTINGS_USERAPIENDPOINT", "https://g", "GitLabSettings", "UserApiEndpoint",
         "https://g"),
        ("MM_PLUGINSETTINGS_CLIENTDIRECTORY", "/c", "PluginSettings", "ClientDirectory", "/c"),
    ],
)  # fmt: skip
def test_a_variable_takes_the_type_of_what_it_replaces(
    variable: str, value: str, section: str, key: str, wanted: object
) -> None:
    found = over(**{variable: value}).tree[section][key]
    assert (type(found), found) == (type(wanted), wanted)


def test_a_key_that_config_json_spells_its_own_way_keeps_that_spelling() -> None:
    config = {"GitLabSettings": {"ID": "old"}}
    tree = overlay(config, {"MM_GITLABSETTINGS_ID": Secret("new")}).tree
    assert tree == {"GitLabSettings": {"ID": "new"}}


@pytest.mark.parametrize("variable", ["MM_INSTALL_TYPE", "SSL_CERT_DIR", "MM_NO_SUCH"])
def test_what_names_no_setting_changes_nothing(variable: str) -> None:
    assert over(**{variable: "x"}).tree == CONFIG


def test_a_variable_counts_in_any_letter_case() -> None:
    """Mattermost's config/environment.go: strings.ToUpper."""
    assert over(mm_servicesettings_siteUrl="x").text("ServiceSettings", "SiteURL") == "x"


def test_a_set_of_before_has_keys_as_they_were_written() -> None:
    settings = EffectiveConfig({"filesettings": {"drivername": "amazons3"}})
    assert settings.text("FileSettings", "DriverName") == "amazons3"


def test_a_section_that_is_no_object_is_left_alone() -> None:
    config = {"GitLabSettings": "odd"}
    assert overlay(config, {"MM_GITLABSETTINGS_ID": Secret("new")}).tree == config


def test_the_document_given_is_not_changed() -> None:
    before = copy.deepcopy(CONFIG)
    over(MM_SERVICESETTINGS_SITEURL="https://chat", MM_GITLABSETTINGS_ID="x")
    assert before == CONFIG


def test_text_secret_and_flag() -> None:
    settings = over(MM_GITLABSETTINGS_SECRET="s3cret", MM_GITLABSETTINGS_ENABLE="true")
    assert settings.text("SqlSettings", "DriverName") == "mysql"
    assert settings.text("ServiceSettings", "ReadTimeout") == ""
    assert settings.text("FeatureFlags", "x") == settings.text("NoSection", "x") == ""
    assert settings.secret("GitLabSettings", "Secret") == Secret("s3cret")
    assert settings.flag("GitLabSettings", "Enable")
    assert settings.flag("ServiceSettings", "EnableCommands")
    assert not settings.flag("ServiceSettings", "EnableTesting")
    assert not settings.flag("NoSection", "x")


def test_settings_show_nothing() -> None:
    assert repr(over(MM_GITLABSETTINGS_SECRET="s3cret")) == "Settings(…)"


def test_differences_are_names_in_order() -> None:
    other = over(
        MM_SQLSETTINGS_DATASOURCE="host=new password=hunter2",
        MM_SERVICESETTINGS_SITEURL="https://chat",
        MM_GITLABSETTINGS_ID="x",
    )
    assert EffectiveConfig(CONFIG).differences(EffectiveConfig(CONFIG)) == []
    assert EffectiveConfig(CONFIG).differences(other) == [
        "GitLabSettings",
        "ServiceSettings.SiteURL",
        "SqlSettings.DataSource",
    ]


NAMES = st.sampled_from(["Alpha", "Beta", "Gamma"])
VALUES = st.sampled_from(["hidden-one", "hidden-two", 7, True])
TREES = st.dictionaries(NAMES, st.one_of(st.dictionaries(NAMES, VALUES), VALUES), max_size=3)


@given(TREES, TREES)
def test_differences_name_what_differs_and_never_a_value(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    found = EffectiveConfig(one).differences(EffectiveConfig(other))
    assert found == EffectiveConfig(other).differences(EffectiveConfig(one))
    assert (found == []) is (one == other)
    for name in found:
        section, _, key = name.partition(".")
        ours, theirs = one.get(section), other.get(section)
        if key:
            assert isinstance(ours, dict) and isinstance(theirs, dict)
            assert ours.get(key) != theirs.get(key)
        else:
            assert ours != theirs
        assert "hidden" not in name
