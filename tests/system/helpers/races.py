"""Races: somebody changes what our programs work on, all the time, while a witness watches elsewhere."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from subprocess import PIPE, CompletedProcess

from tests.lab.installed_package import JOURNAL, Product
from tests.lab.sandbox import Lab, wait_until

CANARY = "/srv/canary"
SECRET = "what-root-alone-may-read"
#: Changes that each race goes through at least; make races has a thousand.
CHANGES = int(os.environ.get("GITLAB_MM_RACES", "100"))

# A tree of root's that no other account can enter.
_MAKE_CANARY = f"""
mkdir -p {CANARY}
mount -t tmpfs -o mode=700 tmpfs {CANARY}
mkdir -m 700 {CANARY}/keys {CANARY}/bells
echo {SECRET} >{CANARY}/keys/key; echo 'echo {SECRET}' >{CANARY}/run.sh
chmod 600 {CANARY}/keys/key
"""
# Owners, modes, sizes and times of change; it opens directories, so the watch is off meanwhile.
_SEAL = f"find {CANARY} -path {CANARY}/bells -prune -o -printf '%p %u:%g %m %T@ %C@ %s\\n' | sort"
_EVENTS = "access,open,modify,attrib,close,create,delete,delete_self,move,move_self"
_SEEN = "/root/witness.log"

# Puts other things in the place of an entry, and the entry back; says how often it did each.
_SWAP = """
import os, random, sys, time
path, canary, kinds = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
home = os.path.dirname(path)
away, strange = path + ".swapped", path + ".strange"
if os.path.isdir(path):  # of the names that the canary has, and new each time
    os.makedirs(path + "/keys", exist_ok=True)
    for name in ("keys/key", "run.sh"):
        open(f"{path}/{name}", "w").write(str(time.time()))
if "directory" in kinds:  # its own, with ways out of it
    os.makedirs(strange + "/deep", exist_ok=True)
    for name, target in (("out", canary), ("deep/out", canary + "/run.sh")):
        os.path.lexists(f"{strange}/{name}") or os.symlink(target, f"{strange}/{name}")
put = {
    "link": lambda: os.symlink(canary, path),
    "link to a file": lambda: os.symlink(canary + "/keys/key", path),
    "pipe": lambda: os.mkfifo(path),
    "directory": lambda: os.rename(strange, path),
}
take = {kind: lambda: os.unlink(path) for kind in put}
take["directory"] = lambda: os.rename(path, strange)
done = dict.fromkeys(kinds, 0)
random.seed(18)
moments = (0.0003, 0.001, 0.005, 0.03)
print("ready", flush=True)
for number in range(10**9):
    kind = kinds[number % len(kinds)]
    try:
        os.rename(path, away)
        try:
            put[kind]()
            time.sleep(0.0003)
            take[kind]()
            done[kind] += 1
        finally:
            os.rename(away, path)
    except OSError:
        pass
    if number % 20 == 0:
        print(min(done.values()), flush=True)
    time.sleep(random.choice(moments))  # now and then a command gets far
"""
# A disk of the account's that comes and goes.
_MOUNT = """
import ctypes, os, random, sys, time
random.seed(18)
path, disk = sys.argv[1].encode(), b"/srv/disk"
libc = ctypes.CDLL(None, use_errno=True)
BIND, DETACH, done = 4096, 2, 0
print("ready", flush=True)
for number in range(10**9):
    if libc.mount(disk, path, None, BIND, None) == 0:
        time.sleep(0.0003)
        libc.umount2(path, DETACH)
        done += 1
    if number % 20 == 0:
        print(done, flush=True)
    time.sleep(random.choice((0.0003, 0.001, 0.005, 0.03)))
"""
_MAKE_DISK = f"""
mkdir -p /srv/disk
mount -t tmpfs tmpfs /srv/disk
ln -s {CANARY} /srv/disk/out; echo mine >/srv/disk/upload
chown -h -R mattermost:mattermost /srv/disk
"""
# The entry as it was before, whatever lies there now.
_SETTLE = """
while [ ! -L "$0" ] && mountpoint -q "$0"; do umount -l "$0"; done
if [ -e "$0.swapped" ]; then rm -rf "$0"; mv -T "$0.swapped" "$0"; fi
if [ -p "$0" ] || [ -L "$0" ]; then rm "$0"; fi
rm -rf "$0.strange"
"""


@dataclass
class House:
    """A server, where Mattermost's directories are, and a tree of root's that must not be touched."""

    lab: Lab
    product: Product
    home: str
    good: str = ""  # a set of before the races
    ended: Counter[tuple[str, int]] = field(default_factory=Counter)  # verb and exit code

    def __post_init__(self) -> None:
        self.shell(_MAKE_CANARY)
        self.shell(_MAKE_DISK)
        self.lab.write("/tmp/swap.py", _SWAP)
        self.lab.write("/tmp/mount.py", _MOUNT)

    def shell(self, script: str, *words: str) -> str:
        return str(self.lab.run("sh", "-ec", script, *words).stdout)

    def race(self, name: str, kinds: str, *verb: str) -> None:
        """Run a verb while an entry of the home is swapped, until it was often enough.

        Raises AssertionError where it ends with a traceback, or touches what is not Mattermost's.
        """
        before, changes = self.shell(_SEAL), 0
        with witness(self.lab) as seen:
            while changes < CHANGES:
                with self._swapped(f"{self.home}/{name}", kinds) as counts:
                    done = self.product.run(*verb, timeout=180)
                changes += counts[-1]
                self.ended[verb[0], done.returncode] += 1
                assert "Traceback" not in done.stderr, (verb, done.stderr)
                assert done.returncode in (0, 1, 4, 5), (verb, done.stderr)
                self._take_back(done, f"{self.home}/{name}" if kinds == "mount" else "")
            assert seen() == [], (verb, name, kinds)
        assert self.shell(_SEAL) == before, (verb, name, kinds)

    @contextlib.contextmanager
    def _swapped(self, path: str, kinds: str) -> Iterator[list[int]]:
        """Have it swapped meanwhile; yield a list to which the number of swaps is added at last."""
        words, user = ["python3", "/tmp/swap.py", path, CANARY, kinds], "mattermost"
        if kinds == "mount":
            words, user = ["python3", "/tmp/mount.py", path], "root"
        swapping = self.lab.popen(*words, user=user, stdout=PIPE)
        counts: list[int] = []
        try:
            assert swapping.stdout is not None and swapping.stdout.readline() == "ready\n"
            yield counts
        finally:
            self.lab.send_signal(swapping, 9)
            counts.append(max(map(int, swapping.communicate()[0].split()), default=0))
            self.shell(_SETTLE, path)

    def _take_back(self, done: CompletedProcess[str], disk: str) -> None:
        """A restore that was disturbed may leave its journal, and says so; then it is taken back.

        One that began with a ``disk`` there wants it for that: what it has put aside lies on it.
        """
        if not self.lab.path(JOURNAL).exists():
            return
        assert done.returncode == 5, done.stderr
        answer = self.product("restore", "--rollback")
        if disk and "Nothing is mounted" in answer.error["detail"]:
            self.shell('mount --bind /srv/disk "$0"', disk)
            answer = self.product("restore", "--rollback")
            self.shell('umount "$0"', disk)
        assert answer.code == 0, answer


@contextlib.contextmanager
def witness(lab: Lab) -> Iterator[Callable[[], list[str]]]:
    """Watch the canary, without our programs having a part in it; yield what tells all events.

    By inotify(7): each open, read, write, chown and rename in it.
    """
    script = f"exec inotifywait -q -m -r -e {_EVENTS} --format '%e %w%f' {CANARY} >{_SEEN}"
    watching = lab.popen("sh", "-c", script)
    bells = itertools.count()

    def ring() -> bool:
        """Ring a bell of ours: once it is heard, nothing from before it is on the way any more."""
        bell = f"{CANARY}/bells/{next(bells)}"
        lab.run("sh", "-c", f": >{bell}; rm {bell}")
        heard = f"CREATE {bell}\n"
        return lab.path(_SEEN).exists() and heard in lab.read(_SEEN)

    def seen() -> list[str]:
        wait_until(ring, 20, "the witness to hear a bell")
        return [line for line in lab.read(_SEEN).splitlines() if f" {CANARY}/bells/" not in line]

    try:
        wait_until(ring, 20, "the witness to watch")
        yield seen
    finally:
        lab.send_signal(watching, 9)
        watching.wait(timeout=20)
