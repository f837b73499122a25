"""A set restored on a server of other names: database, port, home, folders, host."""

from __future__ import annotations

from pathlib import Path

from tests.lab.omnibus import Spec, install
from tests.lab.product import install_product
from tests.lab.sandbox import Bind, Lab

DERIVED = ("poststats", "posts_by_team_day", "file_stats", "bot_posts_by_team_day")
OTHER = Spec(
    seed="second",
    first_uid=1480,
    database="chat_production",
    port=5544,
    home="/srv/chat",
    data_folder="/srv/uploads",
)


def test_a_set_comes_to_a_server_of_other_names(base: Path, deb: Path, tmp_path: Path) -> None:
    bind = Bind(tmp_path, "/mnt", writable=True)
    with Lab(base=base, binds=[bind]) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        seed = gitlab.seed()
        before = gitlab.state()
        lab.run("cp", "-a", product.backup(), "/mnt/")
    (name,) = (path.name for path in tmp_path.iterdir())
    with Lab(base=base, binds=[bind], hostname="other") as lab:
        gitlab = install(lab, OTHER)
        product = install_product(lab, deb)
        answer = product.restore("--no-safety-backup", f"/mnt/{name}")
        assert answer.code == 0, answer
        after = gitlab.state()
        same = {name: value for name, value in before.tables.items() if name not in DERIVED}
        assert {name: after.tables.get(name) for name in same} == same
        owners = {value["owner"] for path, value in after.files.items() if "/srv/" in path}
        assert owners <= {"mattermost", "root"}, owners
        contents = {value["content"] for value in after.files.values()}
        for path, value in before.files.items():
            if "/data/" in path and value["kind"] == "file":
                assert value["content"] in contents, path
        session = gitlab.sign_in("alice")
        for identifier, text in seed.posts.items():
            assert session.read_post(identifier) == text
        assert product.leftovers() == []
