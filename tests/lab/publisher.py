"""A host that publishes our package in a signed apt repository, as `make repo` builds it, on its loopback."""

from __future__ import annotations

from pathlib import Path

from tests.lab.sandbox import Lab, wait_until

PORT = 8086
URL = f"http://127.0.0.1:{PORT}"
PUBLISHED = "/srv/apt"
NEWER = "9.9"
# Apt asks nothing, takes what is there, and says by its exit code that something could not be had.
APT = """\
APT::Get::Assume-Yes "true";
APT::Install-Recommends "false";
APT::Update::Error-Mode "any";
"""
REPACK = f"""\
dpkg-deb -R "$1" /root/newer
sed -i 's/^Version: .*/Version: {NEWER}/' /root/newer/DEBIAN/control
dpkg-deb --root-owner-group -Znone -b /root/newer /root/gitlab-mm-backup_{NEWER}_all.deb
rm -r /root/newer
"""
MAKE_KEY = (
    *("gpg", "--batch", "--passphrase", "", "--quick-generate-key"),
    *("a throwaway key", "ed25519", "sign", "never"),
)


class Publisher:
    """The host; GNUPGHOME of each of its keys is a directory."""

    def __init__(self, lab: Lab, deb: Path) -> None:
        self.lab = lab
        self.package, self.newer = f"/root/{deb.name}", f"/root/gitlab-mm-backup_{NEWER}_all.deb"
        lab.path(self.package).write_bytes(deb.read_bytes())
        lab.run("sh", "-ec", REPACK, "sh", self.package)
        self.key, self.other = self.make_key("ours"), self.make_key("other")
        self.add(self.package)

    def make_key(self, name: str) -> dict[str, str]:
        """The environment in which gpg has this key alone."""
        home = {"GNUPGHOME": f"/root/{name}"}
        self.lab.run("mkdir", "-m", "700", home["GNUPGHOME"])
        self.lab.run(*MAKE_KEY, env=home)
        return home

    def add(self, package: str, key: dict[str, str] | None = None) -> str:
        """Add a package to what is published; what was said."""
        command = ("/lab/src/debian/repository/build.sh", PUBLISHED, URL, "", package)
        return self.lab.run(*command, env=key or self.key).stdout

    def serve(self) -> None:
        """Begin to serve what is published."""
        serve = ("python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory")
        self.lab.popen(*serve, PUBLISHED, str(PORT))
        ask = ("curl", "-fsS", f"{URL}/bookworm.sources")
        wait_until(lambda: self.lab.run(*ask, check=False).returncode == 0, 20, "the server")


def forget_debian(lab: Lab) -> None:
    """Leave apt without sources, for there is no network, and without a question."""
    lab.run(
        "sh", "-c", "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*"
    )
    lab.write("/etc/apt/apt.conf.d/99lab", APT)
