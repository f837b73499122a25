"""Places for copies, as real servers on a lab's loopback: WebDAV and SFTP by rclone, S3 by OpenStack Swift.

Swift is the storage server of many public clouds; its s3api speaks S3 (Debian: python3-swift). It keeps its
metadata in extended attributes, which a memory file system has from Linux 6.6 on.
"""

from __future__ import annotations

import subprocess

from tests.lab.sandbox import PYTHON, Lab, wait_until

KEY, SECRET = "test:tester", "testing-secret-key"
WRITER = "test:writer"  # may put objects into the bucket, and not list it
PASSWORD = "webdav-and-sftp-password"
HOST = "s3.lab.test"
BUCKET = "gitlab-backups"
S3_PORT, SKEWED_PORT, WEBDAV_PORT, SFTP_PORT, CUT_PORT = 6080, 6081, 6082, 6083, 6084
RESTIC_PORT, SSH_PORT, TLS_PORT = 6085, 6086, 6087
S3_CERTIFICATE = "/srv/s3.pem"
RCLONE_CONF = "/root/.config/rclone/rclone.conf"
_SWIFT = "/srv/swift"
_PROXY = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {swift}
user = root
log_level = WARNING
[pipeline:main]
pipeline = {pipeline}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:s3api]
use = egg:swift#s3api
storage_domain = {host}
min_segment_size = 5242880
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
user_test_writer = {secret}
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:container-quotas]
use = egg:swift#container_quotas
"""
_PIPELINE = (
    "catch_errors gatekeeper proxy-logging cache listing_formats s3api tempauth bulk slo dlo "
    "container-quotas proxy-server"
)
_SERVER = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {swift}
devices = {swift}/node
mount_check = false
user = root
log_level = WARNING
fallocate_reserve = 0
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_SSHD = f"""\
ListenAddress 127.0.0.1:{SSH_PORT}
HostKey /srv/ssh_host_key
PidFile none
AuthorizedKeysFile /srv/authorized_keys
AllowUsers backup
PasswordAuthentication no
Subsystem sftp internal-sftp
ForceCommand internal-sftp
"""
_PORTS = {"object": 6200, "container": 6201, "account": 6202}
_RINGS = f"""
from swift.common.ring import RingBuilder
for kind, port in {_PORTS!r}.items():
    ring = RingBuilder(4, 1, 1)
    ring.add_dev({{"id": 0, "region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": port, "device": "d"}})
    ring.rebalance()
    ring.get_ring().save(f"{_SWIFT}/{{kind}}.ring.gz")
"""
_RUN = "import sys; from swift.common.wsgi import run_wsgi; sys.exit(run_wsgi(sys.argv[1], sys.argv[2]))"


def start_s3(lab: Lab) -> None:
    """Start Swift, also after a power cut; make the bucket where there is none."""
    lab.run("mkdir", "-p", f"{_SWIFT}/node/d")
    lab.write(f"{_SWIFT}/swift.conf", "[swift-hash]\nswift_hash_path_suffix = lab\n")
    lab.run("mkdir", "-p", "/etc/swift")
    lab.run("cp", f"{_SWIFT}/swift.conf", "/etc/swift/")
    if not lab.path(f"{_SWIFT}/object.ring.gz").exists():
        lab.run(PYTHON, "-c", _RINGS)
    for kind, port in _PORTS.items():
        _swift(lab, f"{kind}-server", port, _SERVER.format(port=port, swift=_SWIFT, kind=kind))
    _swift(lab, "proxy-server", S3_PORT, _proxy(S3_PORT))
    for port in (*_PORTS.values(), S3_PORT):
        wait_for_port(lab, port)
    names = f"127.0.0.1 {HOST} {BUCKET}.{HOST}\n"
    if names not in lab.read("/etc/hosts"):
        lab.write("/etc/hosts", lab.read("/etc/hosts") + names)


def _proxy(port: int, pipeline: str = _PIPELINE) -> str:
    values = {"swift": _SWIFT, "host": HOST, "secret": SECRET, "pipeline": pipeline}
    return _PROXY.format(port=port, **values)


def _swift(lab: Lab, kind: str, port: int, conf: str, *front: str) -> None:
    path = f"{_SWIFT}/{kind}-{port}.conf"
    lab.write(path, conf)
    _leave_running(lab, *front, PYTHON, "-c", _RUN, path, kind)


def _leave_running(lab: Lab, *words: str) -> None:
    silent = subprocess.DEVNULL
    lab.popen(*words, stdout=silent, stderr=silent, env={"RCLONE_CONFIG": "/dev/null"})


def wait_for_port(lab: Lab, port: int) -> None:
    """Until somebody listens there."""
    words = ("ss", "--no-header", "--listening", "--tcp", "--numeric", f"sport = :{port}")
    wait_until(lambda: lab.run(*words).stdout, 30, f"port {port}")


def make_bucket(lab: Lab) -> None:
    """Make the bucket, as its owner does."""
    s3(lab, "mkdir", f"s3:{BUCKET}")
    _tell_bucket(lab, "x-container-write", WRITER)


def s3(lab: Lab, *words: str) -> str:
    """What rclone says, asked by the bucket's owner."""
    options = {
        **{"TYPE": "s3", "PROVIDER": "Other", "REGION": "us-east-1", "FORCE_PATH_STYLE": "true"},
        **{
            "ENDPOINT": f"http://{HOST}:{S3_PORT}",
            "ACCESS_KEY_ID": KEY,
            "SECRET_ACCESS_KEY": SECRET,
        },
    }
    environment = {f"RCLONE_CONFIG_S3_{name}": value for name, value in options.items()}
    return lab.run("rclone", *words, env={"RCLONE_CONFIG": "/dev/null", **environment}).stdout


def start_skewed_s3(lab: Lab) -> None:
    """The same storage behind a server whose clock is two hours ahead."""
    conf = _proxy(SKEWED_PORT)
    _swift(lab, "proxy-server", SKEWED_PORT, conf, "faketime", "-f", "+2h")
    wait_for_port(lab, SKEWED_PORT)


def start_s3_with_tls(lab: Lab) -> None:
    """The same storage by HTTPS; restic sends by HTTP in chunks that Swift does not take."""
    key = f"{_SWIFT}/s3.key"
    lab.run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"),
        *("-keyout", key, "-out", S3_CERTIFICATE),
    )
    files = f"cert_file = {S3_CERTIFICATE}\nkey_file = {key}\n"
    conf = _proxy(TLS_PORT).replace("[DEFAULT]\n", f"[DEFAULT]\n{files}")
    _swift(lab, "proxy-server", TLS_PORT, conf)
    wait_for_port(lab, TLS_PORT)


def start_webdav(lab: Lab, folder: str) -> None:
    """Serve a folder by WebDAV, only to "backup" with its password."""
    _serve(lab, "webdav", WEBDAV_PORT, folder)


def start_sftp(lab: Lab, folder: str) -> None:
    """Serve a folder by SFTP, only to "backup" with its password."""
    _serve(lab, "sftp", SFTP_PORT, folder)


def start_ssh(lab: Lab, folder: str, denied: str = "") -> None:
    """Have root reach "backup" by OpenSSH, for SFTP alone, with a key; a folder is that account's.

    The requests ``denied`` are refused to it (sftp-server(8), -P).
    """
    lab.run("install", "-d", "-o", "backup", folder)
    lab.run("install", "-d", "-m", "0700", "/root/.ssh")
    for key in ("/root/.ssh/id_ed25519", "/srv/ssh_host_key"):
        lab.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    lab.run("cp", "/root/.ssh/id_ed25519.pub", "/srv/authorized_keys")
    host_key = lab.read("/srv/ssh_host_key.pub")
    lab.write("/root/.ssh/known_hosts", f"[127.0.0.1]:{SSH_PORT} {host_key}")
    lab.write("/srv/sshd_config", _SSHD.rstrip() + (f" -P {denied}\n" if denied else "\n"))
    lab.run("mkdir", "-p", "/run/sshd")
    _leave_running(lab, "/usr/sbin/sshd", "-D", "-f", "/srv/sshd_config")
    wait_for_port(lab, SSH_PORT)


def start_restic(lab: Lab, folder: str) -> None:
    """Serve a repository to restic, only to "backup" with its password."""
    address = ("--addr", f"127.0.0.1:{RESTIC_PORT}", "--user", "backup", "--pass", PASSWORD)
    _leave_running(lab, "rclone", "serve", "restic", *address, folder)
    wait_for_port(lab, RESTIC_PORT)


def write_ssh_conf(lab: Lab, name: str) -> None:
    """What `rclone config` writes for the account that ``start_ssh`` made."""
    key = "key_file = /root/.ssh/id_ed25519\nknown_hosts_file = /root/.ssh/known_hosts\n"
    place = f"type = sftp\nhost = 127.0.0.1\nport = {SSH_PORT}\nuser = backup\n{key}"
    lab.write(RCLONE_CONF, f"[{name}]\n{place}", mode=0o600)


def _serve(lab: Lab, kind: str, port: int, folder: str) -> None:
    lab.run("mkdir", "-p", folder)
    words = ("rclone", "serve", kind, "--addr", f"127.0.0.1:{port}", "--user", "backup")
    # Files come and go behind the server's back in tests.
    _leave_running(lab, *words, "--pass", PASSWORD, "--dir-cache-time", "0s", folder)
    wait_for_port(lab, port)


def write_rclone_conf(lab: Lab) -> None:
    """What `rclone config` writes for root: the two servers, and one of them over a line that can be cut."""
    password = lab.run("rclone", "obscure", PASSWORD).stdout.strip()
    dav = (
        "type = webdav\nvendor = other\nuser = backup\n"
        + f"pass = {password}\nurl = http://127.0.0.1"
    )
    sftp = f"type = sftp\nhost = 127.0.0.1\nport = {SFTP_PORT}\nuser = backup\npass = {password}\n"
    lab.write(
        RCLONE_CONF,
        f"[dav]\n{dav}:{WEBDAV_PORT}\n[cut]\n{dav}:{CUT_PORT}\n[nas]\n{sftp}",
        mode=0o600,
    )


def start_cut_line(lab: Lab, target: int) -> None:
    """A line to a port that breaks after as many bytes as cut_after() said."""
    _leave_running(lab, PYTHON, "/lab/src/tests/lab/breakable_proxy.py", str(CUT_PORT), str(target))
    wait_for_port(lab, CUT_PORT)


def cut_after(lab: Lab, count: int | None, times: int = 1 << 30, *, back: bool = False) -> None:
    """Break the next `times` connections that carry more than `count` bytes; None: none of them.

    Bytes to the remote count, or those that come ``back`` from it.
    """
    words = f"{count} {times}" + (" back" if back else "")
    lab.write("/run/cut-line", words if count is not None else "")


def carried_back(lab: Lab) -> int:
    """How many bytes have come over the line in all."""
    return int(lab.read("/run/carried-back"))


def quota(lab: Lab, count: int) -> None:
    """Let the bucket take no more than so many bytes; 0: as many as there is room for."""
    _tell_bucket(lab, "x-container-meta-quota-bytes", str(count or ""))


def _tell_bucket(lab: Lab, header: str, value: str) -> None:
    code = (
        "import sys; from swift.common.internal_client import InternalClient as C;"
        f"C('{_SWIFT}/internal.conf', 'lab', 1).set_container_metadata('AUTH_test', '{BUCKET}',"
        " {sys.argv[1]: sys.argv[2]})"
    )
    lab.write(f"{_SWIFT}/internal.conf", _proxy(0, "catch_errors cache proxy-server"))
    lab.run(PYTHON, "-c", code, header, value)
