"""GitLab's upload settings (gitlab.yml's ``backup.upload``, for fog) as options of rclone.

rclone reads a remote from variables RCLONE_CONFIG_<NAME>_<OPTION>, so that no secret is on a disk
or in an argument list.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..config.gitlab_yml import Upload
from ..config.settings import GITLAB, Remote
from ..errors import ExitCode, Failure
from ..system.redaction import Secret

FOLDER = "mattermost"  # below GitLab's own place
_SMALLEST_CHUNK = 5 << 20  # bytes; S3 takes no smaller part
_REGION = "us-east-1"  # fog's default
_GOOGLE = "https://storage.googleapis.com"
_AZURE_DOMAIN = "blob.core.windows.net"
_PREFIX = f"RCLONE_CONFIG_{GITLAB.upper()}_"
Version = tuple[int, ...]


@dataclass(frozen=True)
class _Place:
    """rclone's options, the path, and the account that can read the files they name."""

    options: Mapping[str, str | Secret]
    path: str
    account: str | None = "nobody"


def remote(wanted: Upload, version: Version) -> Remote:
    """Return the remote of GitLab's uploads for an rclone of ``version``, as (1, 60, 1).

    Raises Failure for a provider that rclone does not support, and for incomplete settings.
    """
    provider = str(wanted.connection.get("provider") or "")
    translate = _PROVIDERS.get(provider.lower())
    if translate is None:
        raise Failure(
            f"GitLab uploads its backups to {provider or 'an unnamed provider'}, which rclone does "
            "not know",
            "backup_upload_connection in gitlab.rb",
            "Give another place in config.yml (offsite), or switch this off: follow_gitlab: false",
            ExitCode.USAGE,
        )
    found = translate(wanted, version)
    environment = {_PREFIX + key: value for key, value in found.options.items() if value != ""}
    path = f"{found.path.rstrip('/')}/{FOLDER}" if found.path else FOLDER
    path = path if not environment else f"{GITLAB}:{path}"
    return Remote(GITLAB, path, environment, account=found.account)


def _aws(wanted: Upload, version: Version) -> _Place:
    connection = wanted.connection
    endpoint = _endpoint(connection)
    profile = _true(connection.get("use_iam_profile"))
    options: dict[str, str | Secret] = {
        "PROVIDER": "Other" if endpoint else "AWS",
        "ENDPOINT": endpoint,
        "REGION": _text(connection, "region") or _REGION,
        # By default fog puts the bucket into the host name, rclone into the path.
        "FORCE_PATH_STYLE": "true" if _true(connection.get("path_style")) else "false",
    }
    if profile:
        options["ENV_AUTH"] = "true"
    else:
        options["ACCESS_KEY_ID"] = Secret(_needed(connection, "aws_access_key_id"))
        options["SECRET_ACCESS_KEY"] = Secret(_needed(connection, "aws_secret_access_key"))
        if _text(connection, "aws_session_token"):
            options["SESSION_TOKEN"] = Secret(_text(connection, "aws_session_token"))
    if _text(connection, "aws_signature_version") == "2":
        options["V2_AUTH"] = "true"
    return _Place({**_s3(wanted), **options, **_encryption(wanted)}, _bucket(wanted))


def _endpoint(connection: Mapping[str, Any]) -> str:
    host = _text(connection, "host")
    if _text(connection, "endpoint") or not host:
        return _text(connection, "endpoint")
    port = _text(connection, "port")
    return f"{_text(connection, 'scheme') or 'https'}://{host}{f':{port}' if port else ''}"


def _s3(wanted: Upload) -> dict[str, str | Secret]:
    """Return the options common to all S3 providers."""
    chunk = _text(wanted.options, "multipart_chunk_size")
    bytes_ = int(chunk) if chunk.isdecimal() else 0
    return {
        "TYPE": "s3",
        # A key that may only put and get objects may not check that the bucket exists.
        "NO_CHECK_BUCKET": "true",
        "CHUNK_SIZE": f"{max(bytes_, _SMALLEST_CHUNK)}B" if bytes_ else "",
        "STORAGE_CLASS": _text(wanted.options, "storage_class"),
    }


def _encryption(wanted: Upload) -> dict[str, str | Secret]:
    """Return the server-side encryption: the server's own key, KMS, or the customer's key."""
    key, kind = _text(wanted.options, "encryption_key"), _text(wanted.options, "encryption")
    if kind and key:
        encoded = base64.b64encode(key.encode(errors="surrogateescape")).decode()
        return {
            "SSE_CUSTOMER_ALGORITHM": "AES256",
            "SSE_CUSTOMER_KEY_BASE64": Secret(encoded),
        }
    storage = wanted.options.get("storage_options")
    storage = storage if isinstance(storage, Mapping) else {}
    return {
        "SERVER_SIDE_ENCRYPTION": _text(storage, "server_side_encryption")
        or ("AES256" if kind else ""),
        "SSE_KMS_KEY_ID": _text(storage, "server_side_encryption_kms_key_id"),
    }


def _google(wanted: Upload, version: Version) -> _Place:
    connection = wanted.connection
    if _text(connection, "google_storage_access_key_id"):
        options: dict[str, str | Secret] = {
            **_s3(wanted),
            "PROVIDER": "GCS" if version >= (1, 63) else "Other",
            "ENDPOINT": _GOOGLE,
            "ACCESS_KEY_ID": Secret(_needed(connection, "google_storage_access_key_id")),
            "SECRET_ACCESS_KEY": Secret(_needed(connection, "google_storage_secret_access_key")),
        }
        return _Place(options, _bucket(wanted))
    options = {
        "TYPE": "google cloud storage",
        "BUCKET_POLICY_ONLY": "true",
        "PROJECT_NUMBER": _text(connection, "google_project"),
    }
    if _text(connection, "google_json_key_location"):
        options["SERVICE_ACCOUNT_FILE"] = _text(connection, "google_json_key_location")
        return _Place(options, _bucket(wanted), account=None)
    if _text(connection, "google_json_key_string"):
        key = Secret(_text(connection, "google_json_key_string"))
        return _Place({**options, "SERVICE_ACCOUNT_CREDENTIALS": key}, _bucket(wanted))
    if not _true(connection.get("google_application_default")):
        _needed(connection, "google_json_key_location")
    # Application default credentials may lie in a file of root.
    return _Place({**options, "ENV_AUTH": "true"}, _bucket(wanted), account=None)


def _azure(wanted: Upload, version: Version) -> _Place:
    connection = wanted.connection
    account = _needed(connection, "azure_storage_account_name")
    key = _text(connection, "azure_storage_access_key")
    domain = _text(connection, "azure_storage_domain")
    endpoint = ""
    if domain and domain != _AZURE_DOMAIN:
        # rclone 1.60 puts the account in front of it itself.
        endpoint = f"https://{account}.{domain}" if version >= (1, 61) else domain
    options: dict[str, str | Secret] = {
        "TYPE": "azureblob",
        "ACCOUNT": account,
        "ENDPOINT": endpoint,
        **({"KEY": Secret(key)} if key else {"USE_MSI": "true"}),
    }
    return _Place(options, _bucket(wanted))


def _local(wanted: Upload, version: Version) -> _Place:
    root = _needed(wanted.connection, "local_root").rstrip("/")
    directory = wanted.directory.strip("/")
    path = f"{root}/{directory}" if directory not in ("", ".") else root
    return _Place({}, path, account=None)


def _aliyun(wanted: Upload, version: Version) -> _Place:
    connection = wanted.connection
    location = _text(connection, "aliyun_oss_location")
    endpoint = _text(connection, "aliyun_oss_endpoint")
    options: dict[str, str | Secret] = {
        **_s3(wanted),
        "PROVIDER": "Alibaba",
        "ENDPOINT": endpoint or f"oss-{_needed(connection, 'aliyun_oss_location')}.aliyuncs.com",
        "REGION": location,
        "FORCE_PATH_STYLE": "false",
        "ACCESS_KEY_ID": Secret(_needed(connection, "aliyun_accesskey_id")),
        "SECRET_ACCESS_KEY": Secret(_needed(connection, "aliyun_accesskey_secret")),
    }
    # fog-aliyun knows one bucket; a directory is a folder in it.
    bucket, folder = _text(connection, "aliyun_oss_bucket"), wanted.directory.strip("/")
    path = "/".join(part for part in (bucket, folder) if part not in ("", "."))
    return _Place(options, path or _bucket(wanted))


def _openstack(wanted: Upload, version: Version) -> _Place:
    connection = wanted.connection
    address = _needed(connection, "openstack_auth_url")
    options: dict[str, str | Secret] = {
        "TYPE": "swift",
        "USER": _needed(connection, "openstack_username"),
        "KEY": Secret(_needed(connection, "openstack_api_key")),
        "AUTH": address,
        "TENANT": _text(connection, "openstack_tenant"),
        "REGION": _text(connection, "openstack_region"),
    }
    return _Place(options, _bucket(wanted))


_PROVIDERS: Mapping[str, Callable[[Upload, Version], _Place]] = {
    "aws": _aws,
    "google": _google,
    "azurerm": _azure,
    "local": _local,
    "aliyun": _aliyun,
    "openstack": _openstack,
}


def _bucket(wanted: Upload) -> str:
    if not wanted.directory.strip("/"):
        raise _lacking("backup_upload_remote_directory")
    return wanted.directory.strip("/")


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return "" if value is None or isinstance(value, bool) else str(value).strip("\n")


def _needed(connection: Mapping[str, Any], key: str) -> str:
    value = _text(connection, key)
    if not value:
        raise _lacking(key)
    return value


def _lacking(key: str) -> Failure:
    return Failure(
        "GitLab's upload settings are incomplete",
        f"{key} is not set",
        "Correct backup_upload_connection in gitlab.rb, then run gitlab-ctl reconfigure.",
        ExitCode.USAGE,
    )


def _true(value: Any) -> bool:
    return value is True or str(value).lower() == "true"
