"""HTML pages that load nothing: made of a template, written for root alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import Failure
from ..system import humanize
from ..system.files import replace_file

_PACKAGE = __name__.partition(".")[0]


def render(template: str, filters: Mapping[str, Callable[..., Any]], **values: Any) -> bytes:
    """Return a page; whatever a set, a host or a check is called, it is only text in it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(_PACKAGE, "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        size=humanize.size, moment=humanize.moment, number=humanize.number, **filters
    )
    page = environment.get_template(template).render(**values)
    return page.encode(errors="backslashreplace")


def write(path: Path, page: bytes, usage: str) -> Path:
    """Write a page in one step; raises Failure, with ``usage`` as the way out. Returns its full path."""
    path = Path(os.path.abspath(path))
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        replace_file(path, page)
    except OSError as error:
        raise Failure(
            f"{path} cannot be written", str(error.strerror), f"Give another file: {usage}"
        ) from error
    return path


def _visible(value: Any) -> Any:
    """Return a text with what cannot be seen spelled out: it could turn a line around."""
    if type(value) is not str:  # the output of a macro is of a type of its own, and is done
        return value
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in value)
