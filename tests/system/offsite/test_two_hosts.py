"""Hosts that share a place: each keeps, prunes and restores what is its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.installed_package import ONE_SECOND
from tests.lab.sandbox import Lab
from tests.system.helpers.two_hosts import SETS, SHARE, STATE, Hosts, two_hosts

REMOTE = "/srv/nas"
RESTIC = "/srv/restic"
PASSWORD = "/etc/gitlab-mm-backup/restic-password"
IN_RESTIC = f"store: restic\nrestic:\n  repository: {RESTIC}\n  password_file: {PASSWORD}\nkeep:\n  last: 1\n"
TO_REMOTE = f"keep_time: 0\noffsite:\n  - remote: {REMOTE}\n    name: nas\n"
ENVIRONMENT = {"RESTIC_PASSWORD": "pw", "RESTIC_REPOSITORY": RESTIC}


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Hosts]:
    with Lab(base=base) as lab:
        yield two_hosts(lab, deb)


@pytest.fixture
def hosts(server: Hosts) -> Hosts:
    """The lab as host alpha, which has just been installed."""
    server.reset()
    return server


def test_a_folder_of_sets_that_two_hosts_share(hosts: Hosts) -> None:
    """One keeps its last set only; the other's stays, and each restores its own."""
    hosts.write_config(f"backup_path: {SHARE}\nkeep:\n  last: 1\n")
    of_alpha = hosts.backup()
    hosts.become("beta")
    hosts.backup()
    of_beta = hosts.backup()
    assert hosts.listed() == {of_beta: True, of_alpha: False}
    assert hosts.product.restore().document["set"] == of_beta
    hosts.become("alpha")
    assert hosts.product("prune").document["removed"] == []
    hosts.say(hosts.installations["alpha"], "changed")
    answer = hosts.product.restore("--no-safety-backup")
    assert (answer.code, answer.document["set"]) == (0, of_alpha), answer
    assert hosts.said() == ["written on alpha"]
    assert hosts.lab.run("ls", f"{SHARE}/mattermost/{of_beta}/manifest.json").returncode == 0


def test_the_other_hosts_night_is_not_this_ones(hosts: Hosts) -> None:
    """cron asks whether there is a set of this night: one of the other host is none."""
    hosts.write_config(f"backup_path: {SHARE}\n")
    hosts.backup()
    hosts.become("beta")
    due = hosts.lab.run("date", "+%H:%M").stdout.strip()
    hosts.lab.run("install", "-d", "-m", "0700", STATE)
    hosts.lab.run("touch", "--date=3 days ago", f"{STATE}/nightly")
    answer = hosts.product("backup", "--due", due)
    assert answer.code == 0 and answer.document["set"], answer
    assert len(hosts.names(f"{SHARE}/mattermost")) == 2


def test_a_set_that_the_other_host_is_making_is_left_to_it(hosts: Hosts) -> None:
    """Its cron may begin in the same minute: what is half made there is a set in an hour."""
    hosts.write_config(f"backup_path: {SHARE}\n")
    hosts.backup()
    half = f"{SHARE}/mattermost/.incomplete-1795310000_2026_11_22_10.11.4-a1a1a1"
    hosts.lab.run("install", "-d", "-m", "0700", half)
    hosts.backup()
    assert hosts.product("prune").code == 0
    assert hosts.lab.path(half).is_dir()


def test_where_nobody_else_can_tell_the_operator_picks(hosts: Hosts) -> None:
    hosts.write_config(TO_REMOTE)
    of_alpha = hosts.backup()
    hosts.become("beta")
    hosts.backup()
    hosts.become("alpha")
    hosts.lab.run("rm", "-r", SETS, STATE)
    hosts.say("z" * 26, "nobody knows whose this is")
    hosts.gitlab.sql(
        "DELETE FROM posts; DELETE FROM teams; DELETE FROM users; DELETE FROM fileinfo"
    )
    prompt = "script --quiet --return --command 'gitlab-mm-restore --from nas' /dev/null"
    shown = hosts.lab.run("sh", "-c", prompt, input="x\n", check=False, timeout=120).stdout
    rows = [line for line in shown.splitlines() if ". installation" in line]
    assert len(rows) == 2 and "Which one?" in shown, shown
    number = next(row.split(".")[0].strip() for row in rows if "alpha" in row)
    # The key of the host that was is asked about too: it is new here.
    picked = hosts.lab.run("sh", "-c", prompt, input=f"{number}\ny\ny\n", check=False, timeout=180)
    assert picked.returncode == 0, picked.stdout
    assert f"Restored {of_alpha}" in picked.stdout and hosts.said() == ["written on alpha"]


def test_one_removes_the_others_sets_on_request_alone(hosts: Hosts) -> None:
    hosts.write_config(f"backup_path: {SHARE}\nkeep:\n  last: 1\n")
    hosts.backup()
    hosts.write_config(f"backup_path: {SHARE}\n")
    newest = hosts.backup()
    hosts.become("beta")
    hosts.write_config(f"backup_path: {SHARE}\nkeep:\n  last: 1\n")
    mine = hosts.backup()
    shown = hosts.product("prune", "--host", "alpha", "--dry-run").document
    assert sum(not set_["keep"] for set_ in shown["sets"]) == 1 and shown["removed"] == []
    refused = hosts.product("prune", "--host", "alpha")
    assert refused.code == 2 and "--yes" in refused.error["hint"]
    assert len(hosts.names(f"{SHARE}/mattermost")) == 3
    done = hosts.product("prune", "--host", "alpha", "--yes")
    assert done.code == 0 and len(done.document["removed"]) == 1
    assert hosts.names(f"{SHARE}/mattermost") == {newest, mine}


def test_copies_of_two_hosts_that_began_in_one_second(hosts: Hosts) -> None:
    hosts.write_config(TO_REMOTE)
    names = {}
    for host in ("alpha", "beta"):
        if host != "alpha":
            hosts.become(host)
        done = hosts.lab.run(*ONE_SECOND, "gitlab-mm", "backup", "--json", check=False)
        assert done.returncode in (0, 4), done
        names[host] = json.loads(done.stdout)["set"]
    assert names["alpha"][:10] == names["beta"][:10] and names["alpha"] != names["beta"]
    assert hosts.names(REMOTE) == set(names.values())
    for host, name in names.items():
        manifest = json.loads(hosts.lab.read(f"{REMOTE}/{name}/manifest.json"))
        copy = json.loads(hosts.lab.read(f"{REMOTE}/{name}/copy.json"))
        assert manifest["host"] == host and manifest["installation"] == hosts.installations[host]
        assert copy["host_id"] == manifest["host_id"]
        assert copy["installation"] == manifest["installation"]
    hosts.become("alpha")
    hosts.lab.run("rm", "-r", f"{SETS}/{names['alpha']}")
    answer = hosts.product.restore("--from", "nas", "--no-safety-backup")
    assert answer.code in (0, 4), answer
    assert answer.document["set"] == names["alpha"] and hosts.said() == ["written on alpha"]


def test_nothing_overwrites_the_manifest_of_another(hosts: Hosts) -> None:
    """A directory there with the manifest of another set is left unchanged, and reported."""
    hosts.write_config("keep_time: 0\n")
    name = hosts.backup()
    theirs = f"{REMOTE}/{name}/manifest.json"
    manifest = json.loads(hosts.lab.read(f"{SETS}/{name}/manifest.json"))
    manifest.update(host_id="a1" * 16, installation="y" * 26)
    hosts.lab.write(theirs, json.dumps(manifest, indent=2))
    before = hosts.lab.read(theirs)
    hosts.write_config(TO_REMOTE)
    answer = hosts.product("offsite")
    assert answer.code == 1, answer
    for wanted in ("a1" * 16, "y" * 26, hosts.installations["alpha"], name):
        assert wanted in answer.error["detail"]
    assert hosts.lab.read(theirs) == before
    assert hosts.product("list").document["sets"][0]["copies"] == []


def test_the_newest_copy_at_a_shared_remote_may_be_anothers(hosts: Hosts) -> None:
    """A server lost everything but its copies; another one copies to the same place later."""
    hosts.write_config(TO_REMOTE)
    of_alpha = hosts.backup()
    hosts.become("beta")
    of_beta = hosts.backup()
    hosts.become("alpha")
    hosts.lose()
    hosts.say("z" * 26, "nobody knows whose this is")
    hosts.gitlab.sql(
        "DELETE FROM posts; DELETE FROM teams; DELETE FROM users; DELETE FROM fileinfo"
    )
    refused = hosts.product.restore("--from", "nas")
    assert refused.code == 2, refused
    for wanted in ("alpha", "beta", "posts", "users", "last post"):
        assert wanted in refused.error["detail"]
    assert "--installation" in refused.error["hint"]
    wanted = hosts.installations["alpha"]
    answer = hosts.product.restore("--from", "nas", "--installation", wanted[:8])
    assert (answer.code, answer.document["set"]) == (0, of_alpha), answer
    assert hosts.said() == ["written on alpha"]
    assert of_beta in hosts.names(REMOTE)


def test_of_one_mattermost_on_two_hosts_the_one_with_this_name_is_meant(hosts: Hosts) -> None:
    """A copy for trials has the same installation; the server that died had another name."""
    hosts.write_config(TO_REMOTE)
    hosts.backup()
    hosts.become("trials", same_mattermost=True)
    hosts.say(hosts.installations["alpha"], "written in a trial")
    hosts.backup()
    hosts.become("alpha", same_mattermost=True)
    hosts.lose()
    answer = hosts.product.restore("--from", "nas", "--no-safety-backup")
    assert answer.code == 4, answer  # that of the trial is newer, with a key that is not known
    assert hosts.said() == ["written on alpha"]
    assert any("gitlab-mm host take-over" in note for note in answer.document["notes"])


def test_a_copy_of_a_host_prunes_and_adopts_nothing_of_it(hosts: Hosts) -> None:
    """A clone, with all of our state, on another machine; then it is said which of both it is."""
    hosts.write_config(f"{TO_REMOTE}    keep_last: 5\n")
    mine = {hosts.backup() for _ in range(3)}
    original = hosts.product("host").document["id"]
    hosts.lab.write("/etc/machine-id", "c" * 32 + "\n")
    hosts.write_config(
        f"{TO_REMOTE}    keep_last: 1\nkeep:\n  last: 1\n".replace("keep_time: 0\n", "")
    )
    status = hosts.product("status").document
    (line,) = [line for line in status["lines"] if line["name"] == "host"]
    assert line["state"] == "warning" and original[:8] in line["words"]
    answer = hosts.product("backup")
    assert answer.code == 4, answer
    assert any(
        "take-over" in warning and "host new" in warning for warning in answer.document["warnings"]
    )
    assert mine < hosts.names(REMOTE) and mine < hosts.names(SETS)
    here = hosts.product("host").document
    assert here["id"] != original and here["original"] == original
    assert [host["own"] for host in here["hosts"]] == [True, False]
    said = hosts.product("host", "new").document
    assert said["others"] == [original] and said["original"] is None
    assert hosts.product("backup").code == 0
    assert mine < hosts.names(REMOTE) and mine < hosts.names(SETS)


def test_the_same_host_on_other_hardware_takes_its_sets_over(hosts: Hosts) -> None:
    hosts.write_config(TO_REMOTE)
    mine = {hosts.backup() for _ in range(3)}
    hosts.lab.write("/etc/machine-id", "c" * 32 + "\n")
    assert hosts.product("backup").code == 4
    assert hosts.product("host", "take-over").code == 0
    hosts.write_config("keep:\n  last: 1\noffsite:\n  - remote: /srv/nas\n    name: nas\n")
    assert hosts.product("backup").code == 4, "so many at once are asked about"
    assert mine < hosts.names(SETS)
    assert hosts.product("prune", "--yes").code == 0
    assert len(hosts.names(SETS)) == 1


def restic_hosts(hosts: Hosts) -> None:
    hosts.lab.write(PASSWORD, "pw\n", mode=0o600)
    hosts.lab.run("restic", "init", env=ENVIRONMENT)
    hosts.write_config(IN_RESTIC)


def snapshots(hosts: Hosts) -> list[dict[str, Any]]:
    listed = hosts.lab.run("restic", "snapshots", "--json", "--no-lock", env=ENVIRONMENT)
    return list(json.loads(listed.stdout))


def test_a_repository_that_two_hosts_share(hosts: Hosts) -> None:
    restic_hosts(hosts)
    of_alpha = hosts.backup()
    hosts.become("beta")
    hosts.backup()
    of_beta = hosts.backup()
    assert hosts.listed() == {of_beta: True}
    (other,) = hosts.product("list").document["others"]
    assert (other["sets"], other["newest"]) == (1, of_alpha)
    assert {
        tag for snapshot in snapshots(hosts) for tag in snapshot["tags"] if tag[0].isdigit()
    } == {
        of_alpha,
        of_beta,
    }
    tags = {tag for snapshot in snapshots(hosts) for tag in snapshot["tags"]}
    assert {f"installation:{installation}" for installation in hosts.installations.values()} <= tags
    hosts.become("alpha")
    hosts.say(hosts.installations["alpha"], "changed")
    answer = hosts.product.restore("--no-safety-backup")
    assert (answer.code, answer.document["set"]) == (0, of_alpha), answer
    assert hosts.said() == ["written on alpha"]


def test_halves_of_another_hosts_run_are_left_to_it(hosts: Hosts) -> None:
    """What it has kept so far, while it is still at work, has no manifest yet."""
    restic_hosts(hosts)
    hosts.backup()
    tags = "gitlab-mm-backup,1795310000_2026_11_22_10.11.4-a1a1a1,database,host:" + "a1" * 16
    half = ("sh", "-c", f"echo half | restic backup --host other --tag '{tags}' --stdin")
    hosts.lab.run(*half, env=ENVIRONMENT)
    hosts.backup()
    assert hosts.product("prune").code == 0
    assert any("a1" * 16 in tag for snapshot in snapshots(hosts) for tag in snapshot["tags"])


def test_a_full_name_that_dns_does_not_tell_one_night(hosts: Hosts) -> None:
    restic_hosts(hosts)
    file = hosts.lab.path("/etc/hosts")
    without = file.read_text()
    with_name = "127.0.1.1 alpha.corp.example alpha\n" + without
    made = []
    for content in (with_name, without, with_name):
        file.write_text(content)
        made.append(hosts.backup())
        assert hosts.listed() == {made[-1]: True}, "one history, of which the last is kept"
    file.write_text(without)
    assert hosts.product("restore", "--dry-run").document["set"] == made[-1]


def test_sets_from_before_hosts_had_ids_are_claimed_once(hosts: Hosts) -> None:
    """The package was upgraded on a host that had made sets; their manifests are those of then."""
    hosts.write_config("keep_time: 0\n")
    old = hosts.backup()
    make_old(hosts, f"{SETS}/{old}")
    hosts.lab.run("rm", f"{STATE}/host.json")
    assert hosts.listed() == {old: False}
    assert hosts.product("restore", "--dry-run").document["set"] == old
    answer = hosts.product("backup")
    assert answer.code == 0, answer
    assert any("1 set from before" in note for note in answer.document["notes"])
    assert hosts.listed() == {str(answer.document["set"]): True, old: True}
    again = hosts.product("backup")
    assert again.document["notes"] == []


def test_old_sets_are_not_claimed_by_a_server_that_is_empty(hosts: Hosts) -> None:
    hosts.write_config("keep:\n  last: 1\n")
    old = hosts.backup()
    make_old(hosts, f"{SETS}/{old}")
    hosts.lab.run("rm", f"{STATE}/host.json")
    hosts.gitlab.sql("DELETE FROM posts; DELETE FROM teams; DELETE FROM fileinfo")
    answer = hosts.product("backup")
    assert answer.code == 4 and answer.document["shrunken"], answer
    assert hosts.listed() == {str(answer.document["set"]): True, old: False}
    assert hosts.product.restore().document["set"] == old
    assert hosts.said() == ["written on alpha"]
    taken = hosts.product("host", "take-over", "alpha")
    assert taken.code == 0 and taken.document["took_over"] == ["alpha"]
    assert hosts.listed()[old] is True


def make_old(hosts: Hosts, path: str) -> None:
    """Write a set's manifest as a version before 0.2 had it."""
    manifest = json.loads(hosts.lab.read(f"{path}/manifest.json"))
    for name in ("installation", "host_id", "contents", "shrunken", "fuller", "told", "pipes"):
        del manifest[name]
    del manifest["properties"]
    for name in ("filled", "mounted"):
        del manifest["files"][name]
    for name in ("configuration", "left_out"):
        manifest.pop(name, None)
    later = manifest["parts"].pop("configuration", {"file": "none"})["file"]
    hosts.lab.run("rm", "-f", f"{path}/{later}")
    manifest["format"] = 1
    data = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
    hosts.lab.path(f"{path}/manifest.json").write_bytes(data)
    sums = hosts.lab.read(f"{path}/SHA256SUMS").splitlines()[:-1]
    sums = [line for line in sums if not line.endswith(f"  {later}")]
    made = hosts.lab.run("sha256sum", f"{path}/manifest.json").stdout.split()[0]
    hosts.lab.write(f"{path}/SHA256SUMS", "\n".join([*sums, f"{made}  manifest.json"]) + "\n")
    hosts.lab.run("rm", f"{path}/signature.json")
