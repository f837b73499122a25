"""The story of this project in a throwaway lab: back up, lose everything, reinstall, restore, sign in.

sudo make demo    # with the package as the checkout builds it
python3 -m tests.demo --installed    # with the package that is installed on this machine
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tests.lab.base import build_base, build_deb
from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab
from tests.lab.signed_in_user import SignInFailed

BACKUPS = "/srv/backups"  # a disk that survives: GitLab's own folders are purged
BEFORE = Spec(backup_path=BACKUPS, seed="before the accident", first_uid=990)
AFTER = Spec(backup_path=BACKUPS, seed="after the reinstall", first_uid=1480)
GREEN, RED, BOLD, DIM = "32", "31", "1", "2"


def main(*, installed: bool) -> int:
    """Tell the story; 0 when it ended well."""
    began = time.monotonic()
    base, deb = (None, None) if installed else (build_base(), build_deb())
    with Lab(base=base, hostname="gitlab") as lab:
        chapter("A GitLab 18.11 server with its bundled Mattermost")
        gitlab = install(lab, BEFORE)
        product = install_product(lab, deb) if deb else Product(lab)
        seed = gitlab.seed()
        gitlab.sign_in("alice").post("The server looks fine to me.")
        fact(f"{len(seed.posts) + 1} messages and {len(seed.files)} uploads are in it")
        fact(f"mattermost is user {uid(lab)} here; people sign in through GitLab")

        chapter("The night: one set, Mattermost keeps running, and a rehearsal that proves the set")
        show(product, "backup", "-v")
        show(product, "rehearse", "-v")
        show(product, "list")
        rows, state = gitlab.gitlab_database_dump(), gitlab.state()

        chapter("The accident: GitLab, its data, its settings and its accounts are gone")
        if deb:
            lab.run("dpkg", "--purge", "gitlab-mm-backup")
        gitlab.lose_everything()
        command(lab, "ls", "/opt/gitlab", "/var/opt/gitlab", "/etc/gitlab")

        chapter("The reinstall: GitLab is back from its own backup, Mattermost is empty")
        gitlab = install(lab, AFTER)
        gitlab.gitlab_database_restore(rows)
        if deb:
            product = install_product(lab, deb)
        fact(f"mattermost is user {uid(lab)} now, and the host has new credentials")
        if try_sign_in(gitlab, "alice"):
            return fail("sign-in should be broken now")

        chapter("The night comes before anybody has restored: a perfect set of an empty Mattermost")
        if show(product, "backup", "-v") != 4:
            return fail("a set that holds nothing should be told")
        show(product, "list")
        fact(
            "nothing was removed for it: the set with people's messages is still the one to restore"
        )

        chapter("The cure: one command")
        if show(product, "restore", "--yes", "-v") != 0:
            return fail("the restore did not end well")

        chapter("Everything is back")
        if not try_sign_in(gitlab, "alice"):
            return fail("sign-in is still broken")
        return verdict(gitlab, state.differences(gitlab.state(), ignore=DERIVED), seed.posts, began)


# What Mattermost derives from posts and files and refreshes by itself.
DERIVED = ("poststats", "posts_by_team_day", "file_stats", "bot_posts_by_team_day", "sessions")


def verdict(
    gitlab: Omnibus, differences: Sequence[str], posts: dict[str, str], began: float
) -> int:
    """Read everything back as alice, and compare what was with what is."""
    session = gitlab.sign_in("alice")
    lost = [post for post, text in posts.items() if session.read_post(post) != text]
    if lost or differences:
        return fail("\n".join([*lost, *differences]))
    fact(f"all {len(posts)} messages read back through Mattermost, among them:")
    for text in list(posts.values())[:3]:
        print(f"      {text[:70]}")
    fact("every row, file, owner and mode is as it was before the accident")
    gitlab.reconfigure()
    if not try_sign_in(gitlab, "bob"):
        return fail("sign-in does not survive a reconfigure")
    fact("sign-in also survives gitlab-ctl reconfigure")
    print(f"\n{paint('Done', GREEN, BOLD)} in {time.monotonic() - began:.0f} s; the lab is gone.")
    return 0


def try_sign_in(gitlab: Omnibus, who: str) -> bool:
    """Sign in with a browser through GitLab, and say how it went."""
    try:
        gitlab.sign_in(who)
    except SignInFailed as failure:
        print(f"  {paint('sign-in fails', RED, BOLD)} for {who}: {str(failure)[:110]}")
        return False
    print(f"  {paint('sign-in works', GREEN, BOLD)} for {who}")
    return True


def show(product: Product, *arguments: str) -> int:
    """Run our program, show what it says, and return its exit code."""
    print(f"  {paint('$ gitlab-mm ' + ' '.join(arguments), BOLD)}")
    done = product.run(*arguments)
    for line in (done.stderr + done.stdout).splitlines():
        print(f"    {line}")
    return done.returncode


def command(lab: Lab, *arguments: str) -> None:
    """Run a program of the host and show what it says."""
    print(f"  {paint('$ ' + ' '.join(arguments), BOLD)}")
    done = lab.run(*arguments, check=False)
    for line in (done.stdout + done.stderr).splitlines():
        print(f"    {line}")


def uid(lab: Lab) -> str:
    """Mattermost's numeric user id."""
    return lab.run("id", "--user", "mattermost").stdout.strip()


def chapter(title: str) -> None:
    """Begin a new part."""
    print(f"\n{paint('==', DIM)} {paint(title, BOLD)}", flush=True)


def fact(text: str) -> None:
    """State something."""
    print(f"  {text}", flush=True)


def fail(text: str) -> int:
    """End badly."""
    print(f"\n{paint('FAILED', RED, BOLD)}: {text}")
    return 1


def paint(text: str, *codes: str) -> str:
    """Colour a text on a terminal."""
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if sys.stdout.isatty() else text


if __name__ == "__main__":
    sys.exit(main(installed=sys.argv[1:] == ["--installed"]))
