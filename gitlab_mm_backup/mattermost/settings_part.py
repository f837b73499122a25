"""The settings part of a set, which somebody else may have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import Failure
from ..system import validation
from ..system.redaction import Secret


def environment(document: Mapping[str, Any]) -> dict[str, Secret]:
    """Return the variables of the service that settings.json holds.

    Raises Failure where it holds none, or what no process can be started with.
    """
    try:
        found = validation.variables(document.get("environment"))
    except ValueError as error:
        raise Failure(
            "The settings part of the set cannot be used",
            f"settings.json, environment: {error}",
            "Choose another set: gitlab-mm list.",
        ) from None
    return {name: Secret(value) for name, value in found.items()}
