"""The catalogs of debian/translations against the texts in the code, and the choice of the language."""

from __future__ import annotations

import ast
import gettext
import json
import re
import string
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitlab_mm_backup import translation
from tests.unit.helpers.builders import PACKAGE, ROOT

CATALOGS = sorted((ROOT / "debian/translations").glob("*.po"))
CALLS = ("_", "plural", "phrase", "amount")
# Texts that are passed to _() by their name: failures, which are English until the terminal shows them.
NAMED = ("CANCELLED", "NO_TERMINAL", "RUN_WITH_YES")
Catalog = dict["str | tuple[str, int]", str]  # msgid, or (msgid, number of a plural) -> text


def compile_to(folder: Path, po: Path) -> None:
    """Compile a catalog as debian/rules does; msgfmt checks its form and its plurals."""
    target = folder / po.stem / "LC_MESSAGES" / f"{translation.DOMAIN}.mo"
    target.parent.mkdir(parents=True)
    subprocess.run(["msgfmt", "--check", "-o", target, po], check=True)


@pytest.fixture(params=CATALOGS, ids=lambda path: path.stem)
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Catalog:
    compile_to(tmp_path, request.param)
    found = gettext.translation(translation.DOMAIN, tmp_path, [request.param.stem])
    assert isinstance(found, gettext.GNUTranslations)
    entries: Catalog = dict(found._catalog)  # type: ignore[attr-defined]  # no other way to list it
    del entries[""]
    return entries


def texts() -> Iterator[str]:
    """Every text in the code that is translated."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
                found: ast.expr = node.args[0]
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in NAMED:
                found = node.value
            else:
                continue
            if isinstance(found, ast.Constant):
                yield str(found.value)


def test_the_catalog_has_the_texts_of_the_code_and_no_others(catalog: Catalog) -> None:
    ids = {key if isinstance(key, str) else key[0] for key in catalog}
    assert ids == set(texts())
    assert len(ids) > 15


def test_the_placeholders_are_the_same(catalog: Catalog) -> None:
    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    for key, text in catalog.items():
        source = key if isinstance(key, str) else key[0]
        assert fields(text) == fields(source), source
        assert text, source


def test_options_and_commands_stay_as_they_are(catalog: Catalog) -> None:
    for key, text in catalog.items():
        source = key if isinstance(key, str) else key[0]
        assert set(re.findall(r"--[a-z-]+|\bgitlab-mm\b", source)) <= set(
            re.findall(r"--[a-z-]+|\bgitlab-mm\b", text)
        )


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "ja_JP.UTF-8"}, "続行"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "Continue"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C.UTF-8", "LANGUAGE": "ja"}, "Continue"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "ja_JP.UTF-8"}, "続行"),
        ({"LANG": "de_DE.UTF-8"}, "Continue"),
        ({"LANG": "ja_JP.eucJP"}, "Continue"),
        ({"LANG": "ja_JP"}, "続行"),
        ({"LANG": "de_DE.UTF-8", "LANGUAGE": "de:ja"}, "続行"),
        ({"LANGUAGE": "ja"}, "Continue"),  # without a locale, as cron has it
        ({}, "Continue"),
    ],
)
def test_the_locale_decides(
    environment: dict[str, str], language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translation, "_catalog", gettext.NullTranslations())
    for po in CATALOGS:
        compile_to(tmp_path, po)
    translation.choose(environment, str(tmp_path))
    assert translation._("Continue?").startswith(language)


def test_counts_have_their_noun_in_both_languages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translation, "_catalog", gettext.NullTranslations())
    counts = [translation.plural("{count} row", "{count} rows", number) for number in (1, 12345)]
    assert counts == ["1 row", "12 345 rows"]
    compile_to(tmp_path, ROOT / "debian/translations/ja.po")
    translation.choose({"LANG": "ja_JP.UTF-8"}, str(tmp_path))
    assert translation.plural("{count} row", "{count} rows", 12345) == "12 345 行"


def test_a_text_is_english_and_has_its_translation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translation, "_catalog", gettext.NullTranslations())
    compile_to(tmp_path, ROOT / "debian/translations/ja.po")
    translation.choose({"LANG": "ja_JP.UTF-8"}, str(tmp_path))
    why = translation.joined("; ", [translation.phrase("not signed"), "data {name}"])
    text = translation.phrase("{name} is newer and is not taken: {flaws}", name="{x}", flaws=why)
    assert text == "{x} is newer and is not taken: not signed; data {name}"
    assert json.loads(json.dumps([text])) == [str(text)]
    assert re.fullmatch("{x} .*署名なし; data {name}", translation.local(text))
    assert translation.local("as it is") == "as it is"
    counted = translation.amount("{count} post", "{count} posts", 12345)
    assert (counted, translation.local(counted)) == ("12 345 posts", "投稿 12 345 件")
