"""GitLab's upload settings in rclone's words, provider by provider."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from gitlab_mm_backup.config import gitlab_yml
from gitlab_mm_backup.config.settings import Remote
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.offsite import gitlab_upload
from gitlab_mm_backup.system.redaction import Secret

OLD, NEW = (1, 60, 1), (1, 68, 2)  # of Debian 12 and 13; a recent one
KEYS = {"provider": "AWS", "aws_access_key_id": "AKIA", "aws_secret_access_key": "s3cret"}
S3 = {"TYPE": "s3", "NO_CHECK_BUCKET": "true"}


def place(
    connection: Mapping[str, Any],
    version: tuple[int, ...] = OLD,
    directory: str | None = "backups",
    key: str = "",
    **options: Any,
) -> Remote:
    """The remote for gitlab.yml's backup.upload of these values."""
    section = {"connection": dict(connection), "remote_directory": directory, **options}
    wanted = gitlab_yml.upload(section, key)
    assert wanted is not None
    return gitlab_upload.remote(wanted, version)


def told(remote: Remote) -> dict[str, str]:
    """rclone's options in clear, without their prefix."""
    return {
        name.removeprefix("RCLONE_CONFIG_GITLAB_"): value.reveal()
        if isinstance(value, Secret)
        else value
        for name, value in remote.environment.items()
    }


AWS = {
    **S3,
    "PROVIDER": "AWS",
    "REGION": "us-east-1",
    "FORCE_PATH_STYLE": "false",
    "ACCESS_KEY_ID": "AKIA",
    "SECRET_ACCESS_KEY": "s3cret",
}
CASES: dict[str, tuple[Mapping[str, Any], Mapping[str, str]]] = {
    "AWS": (KEYS, AWS),
    "AWS, written small": ({**KEYS, "provider": "aws"}, AWS),
    "a region": ({**KEYS, "region": "eu-central-1"}, {**AWS, "REGION": "eu-central-1"}),
    "a session": ({**KEYS, "aws_session_token": "token"}, {**AWS, "SESSION_TOKEN": "token"}),
    "a profile instead of keys": (
        {**KEYS, "use_iam_profile": True},
        {key: value for key, value in {**AWS, "ENV_AUTH": "true"}.items() if "ACCESS" not in key},
    ),
    "an endpoint wins over a host": (
        {**KEYS, "endpoint": "http://minio:9000", "host": "other", "path_style": True},
        {**AWS, "PROVIDER": "Other", "ENDPOINT": "http://minio:9000", "FORCE_PATH_STYLE": "true"},
    ),
    "a host": (
        {**KEYS, "host": "s3.example.org"},
        {**AWS, "PROVIDER": "Other", "ENDPOINT": "https://s3.example.org"},
    ),
    "a host with scheme and port": (
        {**KEYS, "host": "s3.example.org", "scheme": "http", "port": 8080},
        {**AWS, "PROVIDER": "Other", "ENDPOINT": "http://s3.example.org:8080"},
    ),
    "path_style as a text": (
        {**KEYS, "path_style": "true"},
        {**AWS, "FORCE_PATH_STYLE": "true"},
    ),
    "signatures of version 2": ({**KEYS, "aws_signature_version": 2}, {**AWS, "V2_AUTH": "true"}),
    "streaming signatures, which rclone has not": (
        {**KEYS, "aws_signature_version": 4, "enable_signature_v4_streaming": False},
        AWS,
    ),
    "Google by HMAC": (
        {
            "provider": "Google",
            "google_storage_access_key_id": "GOOG",
            "google_storage_secret_access_key": "s3cret",
        },
        {
            **S3,
            "PROVIDER": "Other",
            "ENDPOINT": "https://storage.googleapis.com",
            "ACCESS_KEY_ID": "GOOG",
            "SECRET_ACCESS_KEY": "s3cret",
        },
    ),
    "Google by a key file": (
        {"provider": "Google", "google_json_key_location": "/etc/g.json", "google_project": "p1"},
        {
            "TYPE": "google cloud storage",
            "BUCKET_POLICY_ONLY": "true",
            "PROJECT_NUMBER": "p1",
            "SERVICE_ACCOUNT_FILE": "/etc/g.json",
        },
    ),
    "Google by a key": (
        {"provider": "Google", "google_json_key_string": '{\n"private_key": "x"}\n'},
        {
            "TYPE": "google cloud storage",
            "BUCKET_POLICY_ONLY": "true",
            "SERVICE_ACCOUNT_CREDENTIALS": '{\n"private_key": "x"}',
        },
    ),
    "Google by what the host has": (
        {"provider": "Google", "google_application_default": True},
        {"TYPE": "google cloud storage", "BUCKET_POLICY_ONLY": "true", "ENV_AUTH": "true"},
    ),
    "Azure": (
        {
            "provider": "AzureRM",
            "azure_storage_account_name": "acct",
            "azure_storage_access_key": "s3cret",
            "azure_storage_domain": "blob.core.windows.net",
        },
        {"TYPE": "azureblob", "ACCOUNT": "acct", "KEY": "s3cret"},
    ),
    "Azure by the host's identity": (
        {"provider": "AzureRM", "azure_storage_account_name": "acct"},
        {"TYPE": "azureblob", "ACCOUNT": "acct", "USE_MSI": "true"},
    ),
    "Azure elsewhere": (
        {
            "provider": "azurerm",
            "azure_storage_account_name": "acct",
            "azure_storage_access_key": "s3cret",
            "azure_storage_domain": "blob.core.chinacloudapi.cn",
        },
        {
            "TYPE": "azureblob",
            "ACCOUNT": "acct",
            "KEY": "s3cret",
            "ENDPOINT": "blob.core.chinacloudapi.cn",
        },
    ),
    "Aliyun": (
        {
            "provider": "Aliyun",
            "aliyun_accesskey_id": "LTAI",
            "aliyun_accesskey_secret": "s3cret",
            "aliyun_oss_endpoint": "https://oss-cn-beijing.aliyuncs.com",
            "aliyun_oss_location": "cn-beijing",
        },
        {
            **S3,
            "PROVIDER": "Alibaba",
            "ENDPOINT": "https://oss-cn-beijing.aliyuncs.com",
            "REGION": "cn-beijing",
            "FORCE_PATH_STYLE": "false",
            "ACCESS_KEY_ID": "LTAI",
            "SECRET_ACCESS_KEY": "s3cret",
        },
    ),
    "OpenStack": (
        {
            "provider": "OpenStack",
            "openstack_username": "user",
            "openstack_api_key": "s3cret",
            "openstack_auth_url": "https://auth.example.org/v3",
            "openstack_tenant": "t1",
            "openstack_region": "r1",
        },
        {
            "TYPE": "swift",
            "USER": "user",
            "KEY": "s3cret",
            "AUTH": "https://auth.example.org/v3",
            "TENANT": "t1",
            "REGION": "r1",
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_provider_and_its_keys(name: str) -> None:
    connection, options = CASES[name]
    found = place(connection)
    assert told(found) == options
    assert found.path == "gitlab:backups/mattermost" and found.config == "/dev/null"
    assert "s3cret" not in repr(found)


def test_newer_versions_of_rclone_are_told_otherwise() -> None:
    azure = dict(CASES["Azure elsewhere"][0])
    assert told(place(azure, NEW))["ENDPOINT"] == "https://acct.blob.core.chinacloudapi.cn"
    assert told(place(CASES["Google by HMAC"][0], NEW))["PROVIDER"] == "GCS"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"multipart_chunk_size": 104857600}, {"CHUNK_SIZE": "104857600B"}),
        ({"multipart_chunk_size": 1000}, {"CHUNK_SIZE": "5242880B"}),
        ({"multipart_chunk_size": None}, {}),
        ({"storage_class": "STANDARD_IA"}, {"STORAGE_CLASS": "STANDARD_IA"}),
        ({"encryption": "AES256"}, {"SERVER_SIDE_ENCRYPTION": "AES256"}),
        (
            {"storage_options": {"server_side_encryption": "aws:kms",
                                 "server_side_encryption_kms_key_id": "arn:1"}},
            {"SERVER_SIDE_ENCRYPTION": "aws:kms", "SSE_KMS_KEY_ID": "arn:1"},
        ),
        ({"storage_options": {}, "encryption": None, "encryption_key": None}, {}),
    ],
)  # fmt: skip
def test_how_it_is_stored(options: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
    assert told(place(KEYS, **options)) == {**AWS, **wanted}


@pytest.mark.parametrize("apart", [False, True])
def test_the_customer_s_key_comes_from_either_place(apart: bool) -> None:
    raw = "k\u00e9y with blanks, 32 bytes long!!"
    options: dict[str, Any] = {
        "encryption": "AES256",
        "encryption_key": None if apart else raw,
    }
    found = place(KEYS, key=raw if apart else "", **options)
    wanted = {
        "SSE_CUSTOMER_ALGORITHM": "AES256",
        "SSE_CUSTOMER_KEY_BASE64": base64.b64encode(raw.encode()).decode(),
    }
    assert told(found) == {**AWS, **wanted}


@pytest.mark.parametrize("name", CASES)
def test_rclone_runs_as_root_only_for_files_of_root(name: str) -> None:
    reads = "key file" in name or "what the host has" in name
    assert place(CASES[name][0]).account == (None if reads else "nobody")


@pytest.mark.parametrize(
    ("directory", "path"),
    [(".", "/mnt/share/mattermost"), ("", "/mnt/share/mattermost"),
     ("gitlab", "/mnt/share/gitlab/mattermost")],
)  # fmt: skip
def test_a_folder_needs_nothing_of_rclone_s_options(directory: str, path: str) -> None:
    found = place({"provider": "Local", "local_root": "/mnt/share/"}, directory=directory)
    assert (found.path, found.environment, found.account) == (path, {}, None)


def test_aliyun_s_directory_is_a_folder_of_its_one_bucket() -> None:
    connection = {**CASES["Aliyun"][0], "aliyun_oss_bucket": "b1"}
    assert place(connection).path == "gitlab:b1/backups/mattermost"
    connection = {**connection, "aliyun_oss_endpoint": ""}
    assert told(place(connection))["ENDPOINT"] == "oss-cn-beijing.aliyuncs.com"


@pytest.mark.parametrize("section", [None, "", {}, {"connection": None}, {"connection": {}}, []])
def test_who_uploads_nothing_has_no_place(section: Any) -> None:
    assert gitlab_yml.upload(section) is None


@pytest.mark.parametrize("provider", ["Rackspace", "", "made-up"])
def test_a_provider_that_rclone_does_not_know_is_named(provider: str) -> None:
    with pytest.raises(Failure) as caught:
        place({"provider": provider})
    assert provider in caught.value.message and caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("connection", "directory", "lacking"),
    [
        ({"provider": "AWS", "aws_access_key_id": "a"}, "b", "aws_secret_access_key"),
        (KEYS, "", "backup_upload_remote_directory"),
        ({"provider": "Google"}, "b", "google_json_key_location"),
        ({"provider": "AzureRM"}, "b", "azure_storage_account_name"),
        ({"provider": "Local"}, "b", "local_root"),
        ({"provider": "OpenStack", "openstack_auth_url": "x"}, "b", "openstack_username"),
        ({"provider": "Aliyun"}, "b", "aliyun_oss_location"),
    ],
)
def test_what_lacks_is_named(connection: Mapping[str, Any], directory: str, lacking: str) -> None:
    with pytest.raises(Failure, match=lacking):
        place(connection, directory=directory)
