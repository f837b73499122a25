"""How the API shows rows and errors."""

from __future__ import annotations

import json
from typing import Any

from .mattermost_data import Row
from .web import Response, json_response


def failure(status: int, identifier: str, message: str) -> Response:
    """An error as the API gives it."""
    return json_response(
        {"id": f"{identifier}.app_error", "message": message, "status_code": status}, status
    )


def one(row: Row | None) -> Response:
    """A row, or 404."""
    return (
        failure(404, "store.missing", "Unable to find it.")
        if row is None
        else json_response(shown(row))
    )


def shown(row: Row) -> dict[str, Any]:
    """A row as JSON: the API's names have an underline where the columns' names have not."""
    document = {
        API_NAMES.get(name, name): value
        for name, value in row.items()
        if not isinstance(value, (bytes, memoryview))
    }
    if "file_ids" in document:
        document["file_ids"] = json.loads(document["file_ids"])
    return document


API_NAMES = {
    "createat": "create_at",
    "updateat": "update_at",
    "deleteat": "delete_at",
    "userid": "user_id",
    "channelid": "channel_id",
    "teamid": "team_id",
    "postid": "post_id",
    "creatorid": "user_id",
    "fileids": "file_ids",
    "displayname": "display_name",
    "mimetype": "mime_type",
}
