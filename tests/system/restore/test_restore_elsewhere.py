"""A set restored on a server of other and odd names: database, port, home, folders, host, links."""

from __future__ import annotations

from pathlib import Path

from tests.lab.installed_package import install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Bind, Lab

DERIVED = ("poststats", "posts_by_team_day", "file_stats", "bot_posts_by_team_day")
OTHER = Spec(
    seed="second",
    first_uid=1480,
    database="Matter-Most.2",
    port=5544,
    home="/srv/chat",
    data_folder="/srv/up loads/ü;x",
)
# As administrators do it whose disk is full.
MOVE = """
gitlab-ctl stop
for path in /var/opt/gitlab /srv/chat; do
    mkdir -p /disk; cp -a $path /disk/; rm -rf $path; ln -s /disk/$(basename $path) $path
done
gitlab-ctl start
"""


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
        lab.run("sh", "-ec", MOVE)
        gitlab.wait_until_ready()
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
        # From there it is backed up, rehearsed and restored as any other.
        for verb in (("backup",), ("verify",), ("rehearse", "--quick"), ("restore", "--yes")):
            answer = product(*verb)
            assert answer.code == 0, answer
        for path in ("/var/opt/gitlab", "/srv/chat"):
            assert lab.run("readlink", path).stdout.startswith("/disk/")
