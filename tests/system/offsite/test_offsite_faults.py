"""Faults outside: a cut upload, an untrusted certificate, an encrypted rclone.conf, restic in a container."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import remotes
from tests.lab.base import build_base
from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab, wait_until

CONFIG = "/etc/gitlab-mm-backup/config.yml"
PASSWORD = "/etc/gitlab-mm-backup/restic-password"
COLLECTOR = "/var/opt/gitlab/node-exporter/textfile_collector"
UPLOADS = (
    "gitlab_rails['backup_upload_connection'] = {'provider' => 'Local', 'local_root' => '/srv/up'}",
    "gitlab_rails['backup_upload_remote_directory'] = '.'",
)
# Those that Docker gives a container.
CAPABILITIES = (
    "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw "
    "sys_chroot mknod audit_write setfcap"
)
# All that leads out of the host: it knows files.outside.example, which is the lab's WebDAV.
PROXY = f"""
import http.client, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do(self):
        path = self.path.removeprefix("http://files.outside.example")
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {{name: value for name, value in self.headers.items() if name.lower() != "host"}}
        there = http.client.HTTPConnection("127.0.0.1", {remotes.WEBDAV_PORT})
        there.request(self.command, path, body, headers)
        answer = there.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    do_GET = do_PUT = do_PROPFIND = do_MKCOL = do_DELETE = do_HEAD = do_OPTIONS = do_MOVE = do
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 3128), Handler).serve_forever()
"""
ENCRYPT = """
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("rclone", ["rclone", "config"])
for word in ("s", "a", "secret-word", "secret-word", "q", "q"):
    said = b""
    while not said.rstrip().endswith((b">", b":")):
        said += os.read(terminal, 4096)
    os.write(terminal, word.encode() + b"\\r")
os.waitpid(pid, 0)
"""


@pytest.fixture(scope="module")
def product(deb: Path) -> Iterator[Product]:
    with Lab(base=build_base(), disk_size="6g") as lab:
        install(lab, Spec(gitlab_rb=UPLOADS))
        lab.run("mkdir", "-p", "/srv/up", COLLECTOR)
        yield install_product(lab, deb)


def s3_conf(url: str) -> str:
    keys = f"access_key_id = {remotes.KEY}\nsecret_access_key = {remotes.SECRET}\n"
    return (
        "[s3x]\ntype = s3\nprovider = Other\nregion = us-east-1\nforce_path_style = true\n"
        f"endpoint = {url}\n{keys}"
    )


def offsite(product: Product, remote: str, more: str = "") -> None:
    text = f"follow_gitlab: false\noffsite:\n  - remote: {remote}\n    retries: 0\n{more}"
    product.lab.write(CONFIG, text, mode=0o640)


def test_restic_in_a_container_with_a_password_of_two_lines(product: Product) -> None:
    lab = product.lab
    lab.write(PASSWORD, "one line\nand another\n", mode=0o600)
    lab.run("restic", "-r", "/srv/restic", "-p", PASSWORD, "init")
    restic = f"store: restic\nrestic:\n  repository: /srv/restic\n  password_file: {PASSWORD}\n"
    lab.write(CONFIG, restic, mode=0o640)
    bounding = ",".join(["-all", *(f"+{capability}" for capability in CAPABILITIES.split())])
    inside = ("setpriv", f"--bounding-set={bounding}", "--inh-caps=-all", "--")
    done = lab.run(*inside, "gitlab-mm", "backup", "-q", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert product("verify").code == 0
    # Nothing is copied to where GitLab uploads its own, so nothing is missing there.
    metrics = lab.run("sh", "-c", f"cat {COLLECTOR}/*.prom").stdout
    assert "gitlab_mm_sets" in metrics and 'remote="gitlab"' not in metrics
    assert "gitlab " not in lab.run("gitlab-mm", "status", check=False).stdout
    # A rehearsal takes more than such a container may; a night says how to have it quiet.
    night = ("gitlab-mm-backup", "--if-present", "--quiet")
    told = lab.run(*inside, *night, check=False)
    assert told.returncode == 4 and "rehearse: off in config.yml" in told.stderr, told
    lab.write(CONFIG, f"{restic}rehearse: off\n", mode=0o640)
    quiet = lab.run(*inside, *night, check=False)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_a_repository_as_the_administrator_s_shell_names_it(product: Product) -> None:
    """What restic reads itself counts where config.yml names none, and never beside it."""
    lab = product.lab
    listed = len(product("list").document["sets"])
    lab.write("/root/repository", "/srv/restic\n", mode=0o600)
    others = {"RESTIC_REPOSITORY_FILE": "/root/none", "RESTIC_PASSWORD": "another"}
    done = lab.run("gitlab-mm", "backup", "-q", env=others, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    own = {"RESTIC_REPOSITORY_FILE": "/root/repository", "RESTIC_PASSWORD_FILE": PASSWORD}
    for environment, remote in ((own, "restic"), (own, "restic:/srv/restic")):
        lab.write(CONFIG, "rehearse: off\n", mode=0o640)
        words = ("gitlab-mm", "list", "--from", remote, "--json")
        done = lab.run(*words, env=environment, check=False)
        assert done.returncode == 0, done
        assert len(json.loads(done.stdout)["sets"]) == listed + 1
    variables = "/etc/gitlab-mm-backup/env"
    lab.write(variables, "RESTIC_REPOSITORY_FILE=/root/repository\n", mode=0o600)
    where = f"environment_file: {variables}\n  password_file: {PASSWORD}\n"
    lab.write(CONFIG, f"store: restic\nrestic:\n  {where}", mode=0o640)
    assert len(product("list").document["sets"]) == listed + 1


def test_an_encrypted_rclone_conf(product: Product) -> None:
    lab = product.lab
    remotes.start_webdav(lab, "/srv/dav")
    remotes.write_rclone_conf(lab)
    lab.run("python3", "-c", ENCRYPT, env={"TERM": "dumb"})
    assert lab.read(remotes.RCLONE_CONF).startswith("# Encrypted rclone")
    offsite(product, "dav:mattermost")
    closed = product("backup")
    assert closed.code == 4
    assert "encrypted and cannot be opened" in closed.document["warnings"][0]
    assert "RCLONE_PASSWORD_COMMAND" in closed.document["warnings"][0]
    lab.write("/root/rclone-password", "secret-word\n", mode=0o600)
    for name, value in (
        ("RCLONE_CONFIG_PASS", "secret-word"),
        ("RCLONE_PASSWORD_COMMAND", "cat /root/rclone-password"),
    ):
        opened = lab.run("gitlab-mm", "offsite", "-q", env={name: value}, check=False)
        assert (opened.returncode, opened.stderr) == (0, "")


def test_an_rclone_conf_that_is_elsewhere(product: Product) -> None:
    lab = product.lab
    remotes.write_rclone_conf(lab)
    lab.run("mv", remotes.RCLONE_CONF, "/etc/rclone.conf")
    offsite(product, "dav:elsewhere")
    assert product("offsite").code == 1
    env = {"RCLONE_CONFIG": "/etc/rclone.conf"}
    assert lab.run("gitlab-mm", "offsite", "-q", env=env, check=False).returncode == 0
    lab.run("mv", "/etc/rclone.conf", "/root/.rclone.conf")
    assert product("offsite").code == 0


def test_a_host_that_reaches_others_by_a_proxy_alone(product: Product) -> None:
    lab = product.lab
    remotes.write_rclone_conf(lab)
    url, text = f"http://127.0.0.1:{remotes.WEBDAV_PORT}", lab.read(remotes.RCLONE_CONF)
    assert text.count(url) == 1
    lab.write(remotes.RCLONE_CONF, text.replace(url, "http://files.outside.example"), mode=0o600)
    lab.write("/tmp/proxy.py", PROXY)
    proxy = lab.popen("python3", "/tmp/proxy.py")
    listening = ("sh", "-c", "ss -ltn | grep -q :3128")
    wait_until(lambda: lab.run(*listening, check=False).returncode == 0, 10, "the proxy")
    offsite(product, "dav:proxied")
    given = {"http_proxy": "http://127.0.0.1:3128"}
    for environment, code in (({}, 1), (given, 0)):
        done = lab.run("gitlab-mm", "offsite", "-q", env=environment, check=False)
        assert done.returncode == code, done
    listed = lab.run("gitlab-mm", "list", "--from", "dav:proxied", "--json", env=given)
    assert json.loads(listed.stdout)["sets"]
    proxy.kill()


@pytest.fixture(scope="module")
def bucket(product: Product) -> Product:
    remotes.start_s3(product.lab)
    remotes.make_bucket(product.lab)
    return product


def test_an_upload_that_was_cut_short_leaves_no_pieces(bucket: Product) -> None:
    lab = bucket.lab
    lab.write(remotes.RCLONE_CONF, s3_conf(f"http://{remotes.HOST}:{remotes.S3_PORT}"), mode=0o600)
    offsite(bucket, "s3x:gitlab-backups/mm", "    bandwidth: 40M\n")
    large = "/var/opt/gitlab/mattermost/data/large"
    lab.run("sh", "-c", f"head -c 320000000 /dev/urandom >{large}; chown mattermost: {large}")
    run = lab.popen("gitlab-mm", "backup", "-q")

    def pieces() -> str:
        words = ("backend", "list-multipart-uploads", "s3x:gitlab-backups")
        return lab.run("rclone", *words, check=False).stdout

    wait_until(lambda: "files.tar" in pieces(), 100, "the upload in pieces")
    lab.run("pkill", "-9", "-x", "rclone", check=False)
    lab.send_signal(run, signal.SIGKILL)
    run.communicate()
    assert "files.tar" in pieces()
    offsite(bucket, "s3x:gitlab-backups/mm")
    assert bucket("offsite", timeout=300).code == 0
    assert "files.tar" not in pieces()
    lab.path(large).unlink()


def test_a_certificate_that_nobody_trusts(bucket: Product) -> None:
    lab = bucket.lab
    remotes.start_s3_with_tls(lab)
    url = f"https://{remotes.HOST}:{remotes.TLS_PORT}"
    lab.write(remotes.RCLONE_CONF, s3_conf(url), mode=0o600)
    offsite(bucket, "s3x:gitlab-backups/tls")
    told = bucket("offsite")
    assert told.code == 1
    assert "certificate is not trusted" in told.error["detail"] + told.error["message"]
    lab.write(PASSWORD, "pw\n", mode=0o600)
    keys = f"AWS_ACCESS_KEY_ID={remotes.KEY}\nAWS_SECRET_ACCESS_KEY={remotes.SECRET}\n"
    lab.write("/etc/gitlab-mm-backup/env", keys, mode=0o600)
    lab.write(
        CONFIG,
        f"store: restic\nrestic:\n  repository: s3:{url}/gitlab-backups/r\n"
        f"  password_file: {PASSWORD}\n  environment_file: /etc/gitlab-mm-backup/env\n",
        mode=0o640,
    )
    listed = bucket("list")
    assert listed.code == 1
    assert "certificate" in listed.error["hint"] and "restic init" not in listed.error["hint"]
