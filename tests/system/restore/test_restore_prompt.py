"""What a restore asks on a terminal, in the language of the operator's locale."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab
from tests.system.helpers.terminals import on_a_terminal

JAPANESE = {"LANG": "ja_JP.UTF-8"}
KANA = re.compile("[\u3040-\u30ff]")


@pytest.fixture(scope="module")
def gitlab(base: Path) -> Iterator[Omnibus]:
    with Lab(base=base) as lab:
        yield install(lab, Spec())


@pytest.fixture(scope="module")
def product(gitlab: Omnibus, deb: Path) -> Product:
    gitlab.seed()
    product = install_product(gitlab.lab, deb)
    product.backup()
    return product


def restore(
    product: Product, answer: str, *options: str, **environment: str
) -> CompletedProcess[str]:
    command = ("gitlab-mm-restore", *options)
    return on_a_terminal(product.lab, *command, answers=(answer,), env=environment)


@pytest.mark.parametrize("answer", ["n", "", "いいえ", "^C"])
def test_no_in_japanese_changes_nothing(answer: str, gitlab: Omnibus, product: Product) -> None:
    before = gitlab.state()
    done = restore(product, answer, **JAPANESE)
    assert done.returncode == 2
    assert "を、次のセットの内容に置き換えます。" in done.stdout
    assert re.search(r"\d+ 行、\d+ ファイル", done.stdout)
    assert re.search(r"続行しますか.+ \[y/N\]: ", done.stdout)
    assert "エラー: キャンセルしました。何も変更していません" in done.stdout
    assert before.differences(gitlab.state()) == []


@pytest.mark.parametrize("answer", ["y", "はい"])
def test_yes_in_japanese_restores(answer: str, product: Product) -> None:
    done = restore(product, answer, "--no-safety-backup", **JAPANESE)
    assert done.returncode == 0, done.stdout
    assert "Restored " in done.stdout


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", **JAPANESE, "LANGUAGE": "ja"},
        {"LC_ALL": "ja_JP.eucJP", **JAPANESE},
        {"LANG": "en_US.UTF-8"},
    ],
    ids=["C", "EUC", "English"],
)
def test_another_locale_is_asked_in_english(environment: dict[str, str], product: Product) -> None:
    done = restore(product, "n", **environment)
    assert done.returncode == 2
    assert "Continue? [y/N]: " in done.stdout
    assert "Error: Cancelled; nothing changed" in done.stdout
    assert not KANA.search(done.stdout)


def test_the_live_state_and_the_set_are_compared(gitlab: Omnibus, product: Product) -> None:
    (posts,) = gitlab.sql("SELECT count(*) FROM posts WHERE deleteat = 0")
    gitlab.sql("UPDATE posts SET deleteat = 1 WHERE id = (SELECT min(id) FROM posts)")
    try:
        said = restore(product, "n").stdout
    finally:
        gitlab.sql("UPDATE posts SET deleteat = 0 WHERE deleteat = 1")
    assert re.search(r"^ +LIVE +SET$", said, re.M)
    assert re.search(rf"^  posts +{int(posts) - 1} +{posts}$", said, re.M), said
    assert re.search(r"^  last post  (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC) +\1$", said, re.M)
    assert re.search(r"Mattermost will be down for about \d+ s\.\n", said)
    assert "A safety backup of the live state is made first.\n" in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_live_state_that_cannot_be_read_is_not_known(gitlab: Omnibus, product: Product) -> None:
    gitlab.gitlab_ctl("stop", "postgresql")
    try:
        done = restore(product, "n")
    finally:
        gitlab.gitlab_ctl("start", "postgresql")
        gitlab.wait_until_ready()
    assert done.returncode == 2 and "Error: Cancelled; nothing changed" in done.stdout
    assert re.search(r"^  posts +not known +\d+$", done.stdout, re.M), done.stdout
    assert "The live state is not known: " in done.stdout


def test_json_log_and_exit_code_are_english(product: Product) -> None:
    done = product.lab.run("gitlab-mm", "restore", "--json", env=JAPANESE, check=False)
    assert done.returncode == 2
    assert "Confirmation needed, but there is no terminal" in done.stdout
    assert not KANA.search(done.stdout + done.stderr)
    told = product.lab.run("gitlab-mm", "restore", env=JAPANESE, check=False)
    assert "エラー: 確認が必要ですが、端末がありません" in told.stderr
