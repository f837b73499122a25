"""Write the page: python -m tests.cases."""

from __future__ import annotations

from tests.cases import page

page.PATH.write_text(page.page(), encoding="utf-8")
