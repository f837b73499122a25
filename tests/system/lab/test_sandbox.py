"""The lab itself: isolated, without changes outside, without leftovers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Callable

import pytest

from tests.lab.disks import CHECKOUT, DiskRoom, choose_mount_point, disk_room
from tests.lab.machine import refuse_unfit_machine, resolve_inside
from tests.lab.sandbox import Bind, CommandFailed, Lab, LabError, LabRefused, LabTimeout, wait_until

MakeLab = Callable[..., Lab]
FOLDERS = ("/etc", "/opt", "/root", "/run", "/srv", "/tmp", "/usr/bin", "/var/tmp", "/dev/shm")

#: Another test process: boots a lab with a stubborn program in it, names it, and hangs.
DRIVER = """
import sys, time
from tests.lab.sandbox import Lab
lab = Lab()
lab.boot()
lab.popen("sh", "-c", "trap '' TERM HUP INT; : >/tmp/started; while :; do sleep 1; done")
while not lab.path("/tmp/started").exists():
    time.sleep(0.01)
print(lab.pid, flush=True)
time.sleep(600)
"""


def running() -> set[int]:
    """Process ids of the machine, without those that have ended and only wait to be reaped."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # ended meanwhile
        if fields.rpartition(")")[2].split()[0] not in "ZX":
            found.add(int(status.parent.name))
    return found


def members(namespace: str, kind: str) -> set[int]:
    """Process ids in a namespace, given as readlink(2) shows it, e.g. pid:[4026532241]."""
    found = set()
    for process in running():
        try:
            link = os.readlink(f"/proc/{process}/ns/{kind}")
        except OSError:
            continue
        if link == namespace:
            found.add(process)
    return found


def namespaces(process: int) -> dict[str, str]:
    return {
        kind: os.readlink(f"/proc/{process}/ns/{kind}")
        for kind in ("mnt", "pid", "net", "uts", "ipc")
    }


def children(process: int) -> set[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    return {int(child) for child in listed.split()}


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def test_files_written_inside_do_not_appear_outside(make_lab: MakeLab) -> None:
    lab = make_lab()
    name = f"lab-{uuid.uuid4()}"
    for folder in FOLDERS:
        lab.run("sh", "-c", 'echo inside > "$1"', "sh", f"{folder}/{name}")
        assert lab.read(f"{folder}/{name}") == "inside\n"
        assert not Path(folder, name).exists(), folder


def test_files_removed_inside_stay_outside(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.run("rm", "/etc/os-release", "/usr/lib/os-release")
    assert not lab.path("/usr/lib/os-release").exists()
    assert Path("/usr/lib/os-release").exists()


def test_folders_of_the_machine_can_be_renamed_inside(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.run(
        "/usr/bin/python3",
        "-c",
        "import os; os.rename('/usr/share/common-licenses', '/usr/share/moved')",
    )
    assert lab.path("/usr/share/moved/GPL-3").exists()
    assert Path("/usr/share/common-licenses/GPL-3").exists()


def test_a_lab_has_its_own_namespaces_and_name(make_lab: MakeLab) -> None:
    lab = make_lab(hostname="gitlab")
    inside, outside = namespaces(lab.pid), namespaces(os.getpid())
    assert [kind for kind in inside if inside[kind] == outside[kind]] == []
    assert lab.run("uname", "-n").stdout == "gitlab\n"
    assert lab.run("cat", "/proc/1/comm").stdout.startswith("python3")


def test_mounts_of_a_lab_are_not_seen_outside(make_lab: MakeLab) -> None:
    before = mounts()
    lab = make_lab()
    lab.run("mount", "-t", "tmpfs", "tmpfs", "/srv")
    lab.run("mountpoint", "-q", "/srv")
    assert mounts() == before


def test_the_only_network_is_an_own_loopback(make_lab: MakeLab) -> None:
    lab = make_lab()
    links = lab.run("ip", "-oneline", "link").stdout.splitlines()
    assert len(links) == 1
    assert "lo:" in links[0]
    assert lab.run("ip", "route").stdout == ""
    server = lab.popen("/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "18080")
    fetch = ("curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:18080/etc/hostname")
    wait_until(lambda: lab.run(*fetch, check=False).returncode == 0, 20, "a server on the loopback")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", 18080), timeout=10)
    lab.send_signal(server, signal.SIGKILL)
    server.communicate(timeout=10)


def test_network_can_be_kept(make_lab: MakeLab) -> None:
    lab = make_lab(network=True)
    assert namespaces(lab.pid)["net"] == namespaces(os.getpid())["net"]
    if Path("/etc/resolv.conf").exists():
        assert lab.read("/etc/resolv.conf") == Path("/etc/resolv.conf").read_text(encoding="utf-8")


def test_the_checkout_is_visible_and_read_only(make_lab: MakeLab) -> None:
    lab = make_lab()
    here = Path(__file__)
    assert lab.read(f"/lab/src/{here.relative_to(CHECKOUT)}") == here.read_text(encoding="utf-8")
    failed = lab.run("touch", "/lab/src/new", check=False)
    assert "Read-only file system" in failed.stderr


def test_folders_can_be_bound(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(binds=[Bind(tmp_path, "/out", writable=True), Bind(tmp_path, "/in")])
    lab.run("sh", "-c", "echo made inside > /out/file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "made inside\n"
    assert lab.read("/in/file") == "made inside\n"
    assert lab.run("touch", "/in/file", check=False).returncode != 0


def test_kernel_switches_and_disks_of_the_machine_are_out_of_reach(make_lab: MakeLab) -> None:
    lab = make_lab()
    switch = "/proc/sys/vm/swappiness"
    failed = lab.run("sh", "-c", 'value=$(cat "$1"); echo $value > "$1"', "sh", switch, check=False)
    assert "Read-only file system" in failed.stderr
    assert [path.name for path in lab.path("/dev").rglob("*") if path.is_block_device()] == []


def test_commands_get_a_clean_environment(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MM_SQLSETTINGS_DATASOURCE", "from the host")
    lab = make_lab()
    lines = lab.run("env", env={"EXTRA": "1"}).stdout.splitlines()
    assert {line.partition("=")[0] for line in lines} == {
        "PATH",
        "LANG",
        "HOME",
        "USER",
        "LOGNAME",
        "EXTRA",
    }


def test_commands_run_as_a_user_with_its_groups(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.run("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "someone")
    lab.run("usermod", "--append", "--groups", "adm", "someone")
    assert lab.run("id", "-un", user="someone").stdout == "someone\n"
    assert set(lab.run("id", "-Gn", user="someone").stdout.split()) == {"someone", "adm"}
    with pytest.raises(LabError, match="no user 'nobody-such'"):
        lab.run("id", user="nobody-such")


def test_a_failing_command_shows_what_happened(make_lab: MakeLab) -> None:
    lab = make_lab()
    with pytest.raises(CommandFailed) as caught:
        lab.run("sh", "-c", "echo to stdout; echo to stderr >&2; exit 9")
    shown = str(caught.value)
    assert "exit code 9" in shown
    assert "to stdout" in shown
    assert "to stderr" in shown
    assert "exit 9" in shown
    assert lab.run("false", check=False).returncode == 1


def test_a_command_that_takes_too_long_is_killed(make_lab: MakeLab) -> None:
    lab = make_lab()
    with pytest.raises(LabTimeout, match=r"no end after 0\.2 s"):
        lab.run("sh", "-c", "sleep 600; true", timeout=0.2)
    assert "sleep" not in lab.run("ps", "-eo", "comm").stdout


def test_input_and_bytes_pass_unchanged(make_lab: MakeLab) -> None:
    lab = make_lab()
    every_byte = bytes(range(256))
    assert lab.run_bytes("cat", input=every_byte).stdout == every_byte
    assert lab.run("cat", input="Grüße\n").stdout == "Grüße\n"


def test_signals_reach_the_command_and_its_exit_code_comes_back(make_lab: MakeLab) -> None:
    lab = make_lab()
    program = "trap 'echo ending; exit 42' TERM; echo ready; while :; do sleep 0.05; done"
    process = lab.popen("sh", "-c", program)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    lab.send_signal(process, signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == "ending\n"
    assert process.returncode == 42


def test_orphans_are_reaped(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.run("sh", "-c", "for i in 1 2 3; do (true &) ; done")
    wait_until(lambda: "defunct" not in lab.run("ps", "-e").stdout, 10, "PID 1 to reap")
    assert lab.run("ps", "--no-headers", "-eo", "stat").stdout.count("Z") == 0


def test_paths_do_not_leave_the_lab_through_links(make_lab: MakeLab) -> None:
    lab = make_lab()
    name = f"lab-{uuid.uuid4()}"
    lab.run("ln", "-s", f"/etc/{name}", "/srv/link")
    lab.write("/srv/link", "kept inside", mode=0o600, owner="nobody:nogroup")
    assert not Path("/etc", name).exists()
    assert lab.run("stat", "-c", "%a %U:%G", f"/etc/{name}").stdout == "600 nobody:nogroup\n"
    assert lab.path("/srv/link", follow=False).is_symlink()


def test_links_are_resolved_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "up").symlink_to("../../../../etc")
    (tmp_path / "loop").symlink_to("loop")
    assert resolve_inside(tmp_path, "/var/run/x") == tmp_path / "run/x"
    assert resolve_inside(tmp_path, "/up/passwd") == tmp_path / "etc/passwd"
    assert resolve_inside(tmp_path, "/var/run", follow=False) == tmp_path / "var/run"
    with pytest.raises(LabError, match="too many levels"):
        resolve_inside(tmp_path, "/loop/x")


def test_after_a_power_cut_the_disk_is_kept_and_memory_is_not(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.write("/var/lib/kept", "on disk")
    lab.write("/run/lost", "in memory")
    program = lab.popen("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    namespace = namespaces(lab.pid)["pid"]
    lab.power_off()
    assert members(namespace, "pid") == set()
    assert program.wait(timeout=10) == -signal.SIGKILL
    program.communicate(timeout=10)
    with pytest.raises(LabError, match="switched off"):
        lab.run("true")
    lab.boot()
    assert lab.read("/var/lib/kept") == "on disk"
    assert not lab.path("/run/lost").exists()


def test_a_disk_is_as_small_as_wanted(make_lab: MakeLab) -> None:
    lab = make_lab(disk_size="8m")
    full = lab.run("dd", "if=/dev/zero", "of=/var/lib/big", "bs=1M", "count=20", check=False)
    assert "No space left on device" in full.stderr


def test_labs_live_side_by_side(make_lab: MakeLab) -> None:
    first, second = make_lab(hostname="first"), make_lab(hostname="second")
    first.write("/etc/only", "first")
    assert not second.path("/etc/only").exists()
    assert second.run("uname", "-n").stdout == "second\n"


def test_a_closed_lab_leaves_nothing_behind(base: Path) -> None:
    before = mounts()
    disk_room().unpack_layer(base)
    disks = set(os.listdir(disk_room().outside))
    with Lab(base=base) as lab:
        assert lab.disk.name in os.listdir(disk_room().outside)
        process = lab.popen("sleep", "600")
        spaces = namespaces(lab.pid)
    process.wait(timeout=10)
    for kind, namespace in spaces.items():
        assert members(namespace, kind) == set(), kind
    assert mounts() == before
    assert set(os.listdir(disk_room().outside)) == disks
    lab.close()


def test_nothing_is_left_when_the_test_process_is_killed() -> None:
    before = mounts()
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert driver.stdout is not None
    lab = int(driver.stdout.readline())
    spaces = [(kind, name) for kind, name in namespaces(lab).items()]
    spaces += [("mnt", os.readlink(f"/proc/{child}/ns/mnt")) for child in children(driver.pid)]
    assert len(members(dict(spaces[:2])["pid"], "pid")) >= 2
    driver.kill()
    driver.communicate()
    wait_until(lambda: not any(members(name, kind) for kind, name in spaces), 5, "the end of all")
    assert mounts() == before


def test_a_lab_that_cannot_boot_says_why_and_leaves_nothing(base: Path, tmp_path: Path) -> None:
    disk_room().unpack_layer(base)
    disks, processes = os.listdir(disk_room().outside), children(os.getpid())
    with (
        pytest.raises(LabError, match="did not boot") as caught,
        Lab(base, binds=[Bind(tmp_path / "x", "/x")]),
    ):
        pass
    assert "does not exist" in str(caught.value)
    assert children(os.getpid()) <= processes
    assert sorted(os.listdir(disk_room().outside)) == sorted(disks)


def test_a_machine_with_gitlab_files_is_refused(tmp_path: Path) -> None:
    refuse_unfit_machine(tmp_path)
    (tmp_path / "opt/gitlab/embedded").mkdir(parents=True)
    with pytest.raises(LabRefused, match="do not run on a machine with GitLab"):
        refuse_unfit_machine(tmp_path)


@pytest.mark.parametrize("package", ["gitlab-ce", "gitlab-ee"])
def test_a_machine_with_the_gitlab_package_is_refused(tmp_path: Path, package: str) -> None:
    database = tmp_path / "var/lib/dpkg"
    database.mkdir(parents=True)
    (database / "status").write_text(
        f"Package: {package}\nStatus: install ok installed\nArchitecture: all\n"
        "Maintainer: x <x@example.org>\nVersion: 18.11.9\nDescription: x\n",
        encoding="ascii",
    )
    with pytest.raises(LabRefused, match=f"package {package} is installed"):
        refuse_unfit_machine(tmp_path)


def test_without_root_there_is_no_lab() -> None:
    with pytest.raises(LabRefused, match="need root"):
        refuse_unfit_machine(user_id=1000)


def test_a_lab_inside_a_lab_with_gitlab_is_refused(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.run("mkdir", "-p", "/opt/gitlab/embedded")
    program = "from tests.lab.sandbox import Lab; Lab()"
    refused = lab.run("/usr/bin/python3", "-B", "-c", program, cwd="/lab/src", check=False)
    assert "LabRefused: /opt/gitlab/embedded exists" in refused.stderr


def test_the_disks_never_hide_the_checkout() -> None:
    assert choose_mount_point(Path("/mnt/data/checkout")) != Path("/mnt")
    assert choose_mount_point(Path("/home/someone/checkout")) == Path("/mnt")


def test_a_disk_room_reports_what_fails() -> None:
    room = DiskRoom(Path("/mnt"))
    with pytest.raises(LabError, match=r"mkdir: exit code|mkdir /no/such/place: exit code 1"):
        room.run("mkdir", "/no/such/place")
    room.close()


def test_waiting_has_an_end() -> None:
    assert wait_until(lambda: "value", 1) == "value"
    with pytest.raises(LabTimeout, match="in vain for nothing"):
        wait_until(lambda: None, 0.05, "nothing")


def test_base_layer_has_the_packages(make_lab: MakeLab) -> None:
    lab = make_lab()
    names = ("postgresql", "runit", "cron", "faketime")
    states = lab.run("dpkg-query", "-W", "-f", "${db:Status-Status}\n", *names)
    assert set(states.stdout.split()) == {"installed"}
    assert lab.run("dpkg", "--audit").stdout == ""


def test_packages_neither_start_services_nor_make_database_clusters(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.run("invoke-rc.d", "cron", "start", check=False)
    assert lab.run("ps", "--no-headers", "-eo", "comm").stdout.split() == ["python3", "ps"]
    clusters = {path.name for path in lab.path("/etc/postgresql").glob("*/*")}
    assert clusters == {path.name for path in Path("/etc/postgresql").glob("*/*")}


def test_systemd_runs_for_real_and_leaves_nothing(base: Path) -> None:
    with Lab(base=base, systemd=True) as lab:
        assert lab.read("/proc/1/comm") == "systemd\n"
        lab.write("/etc/systemd/system/one.service", "[Service]\nExecStart=/bin/sleep 1000\n")
        lab.run("systemctl", "daemon-reload")
        lab.run("systemctl", "start", "one")
        assert lab.run("systemctl", "is-active", "one").stdout == "active\n"
        pid = lab.pid
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    groups = [Path(mount[1]) / f"lab-{pid}" for mount in mounts if mount[2] == "cgroup2"]
    assert groups
    assert not any(group.exists() for group in groups)


def test_two_labs_share_a_network(make_lab: MakeLab) -> None:
    first = make_lab()
    second = make_lab(network_of=first)
    server = first.popen("/usr/bin/python3", "-m", "http.server", "8099", "--bind", "127.0.0.1")
    ask = ("curl", "-sf", "-o", "/dev/null", "http://127.0.0.1:8099/")
    wait_until(lambda: second.run(*ask, check=False).returncode == 0, 10, "an answer")
    assert server.poll() is None
    assert make_lab().run(*ask, check=False).returncode != 0
