"""Write the pages: python -m tests.cases."""

from __future__ import annotations

from tests.cases import page

page.PATH.write_text(page.page(), encoding="utf-8")
page.FINDINGS.write_text(page.findings(), encoding="utf-8")
