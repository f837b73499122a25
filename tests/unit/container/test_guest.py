"""Programs of a container: how they are started."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitlab_mm_backup.system import sandbox
from gitlab_mm_backup.system.process import Command
from gitlab_mm_backup.system.sandbox import Guest, Sandbox

ROOT = Path("/seen/root")
GUEST = Guest(ROOT, (Path("/opt/gitlab"),), {Path("/etc/passwd"): Path("/seen/passwd")})
PROGRAM = "/opt/gitlab/embedded/bin/pg_dump"


@pytest.fixture(autouse=True)
def received(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_guests", [GUEST])
    monkeypatch.setattr(sandbox, "syscall_filter", lambda: b"")  # of a package of the host


def test_whose_a_program_is() -> None:
    assert sandbox.guest_of(PROGRAM) is GUEST
    assert sandbox.guest_of("/opt/gitlab-runner/bin/x") is None
    assert sandbox.guest_of("tar") is None


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (141, -13), (137, -9), (-9, -9)])
def test_a_signal_is_told_as_one(code: int, expected: int) -> None:
    """bwrap(1) ends as a shell does: 128 and the signal's number."""
    assert Command([PROGRAM]).code(code) == expected
    assert Command(["tar"]).code(code) == code


def words(sandboxed: Sandbox | None = None, account: bool = True) -> str:
    import pwd

    entry = pwd.getpwnam("nobody") if account else None
    shared = [Path("/run/socket")]
    return " ".join(sandbox.rights_prefix(entry, None, sandboxed, lambda _: 7, GUEST, shared))


def test_a_program_of_an_account_reads_only() -> None:
    found = words()
    assert "--ro-bind /seen/root / " in found and "--bind /seen/root" not in found.replace(
        "ro-bind", ""
    )
    assert "--die-with-parent" in found and "--unshare-pid" in found and "--seccomp 7" in found
    assert "--ro-bind /seen/passwd /etc/passwd" in found
    assert "--bind-try /run/socket /run/socket" in found
    assert "CAP_DAC_OVERRIDE" not in found


def test_a_program_of_root_has_the_rights_of_an_engine() -> None:
    found = words(account=False)
    assert " --bind /seen/root / " in found
    given = {word for word in found.split() if word.startswith("CAP_")}
    assert "CAP_SYS_ADMIN" not in given and "CAP_SYS_PTRACE" not in given and "CAP_CHOWN" in given


def test_a_sandbox_is_the_containers_file_system() -> None:
    found = words(Sandbox({Path("/run/gitlab-mm/home"): Path("/scratch")}))
    assert "--ro-bind /seen/root / " in found and "--ro-bind / /" not in found
    assert "--bind /scratch /run/gitlab-mm/home" in found
    assert "prlimit" in found


def test_the_hosts_setpriv_is_used_inside() -> None:
    """Old images have none, and musl's has other options."""
    loader, option, folders, program = GUEST.setpriv
    assert option == "--library-path" and loader.startswith(folders.split(":")[0])
    assert program in GUEST.needs


SERVER = Guest(ROOT / "server", (ROOT / "server",), network=Path("/seen/network"))


def test_a_path_that_leads_through_the_root_is_another_inside() -> None:
    assert sandbox.path_inside(SERVER, "/seen/root/server/bin/psql") == "/bin/psql"
    assert sandbox.path_inside(GUEST, PROGRAM) == PROGRAM
    assert sandbox.path_inside(None, "tar") == "tar"


def test_a_program_has_the_network_of_its_guest() -> None:
    found = sandbox.rights_prefix(None, None, None, lambda _: 7, SERVER)
    at = found.index("nsenter")
    assert found[at : at + 3] == ["nsenter", "--net=/seen/network", "--"]
    assert found.index("bwrap") == at + 3
    assert "nsenter" not in words()
