"""Stands in for `gitlab-rails runner` in the one thing that Omnibus asks of it here: the Mattermost application's row.

Reads a JSON object on stdin: place [socket directory, port, database], addresses, pair [id, secret], form, ours.
Prints the pair to use as JSON. Ends with 1 and GitLab's message on stderr when the row cannot be made.
"""

from __future__ import annotations

import json
import sys

import psycopg

from . import oauth


def main() -> int:
    """Answer one request."""
    request = json.load(sys.stdin)
    pair: oauth.Credentials = (request["pair"][0], request["pair"][1])
    try:
        with oauth.connect(*request["place"]) as connection:
            if request["ours"]:
                oauth.register_ours(connection, request["addresses"], pair, request["form"])
            else:
                pair = oauth.register_theirs(
                    connection, request["addresses"], pair, request["form"]
                )
    except psycopg.Error as error:
        print(f"Validation failed: {error}", file=sys.stderr)
        return 1
    print(json.dumps(pair))
    return 0
