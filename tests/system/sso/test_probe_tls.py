"""The probe over https: certificates are verified, with those that Omnibus trusts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import PYTHON, Lab, wait_until

HOST = "gitlab.example.test"
TRUSTED = "/etc/gitlab/trusted-certs/own.crt"
TOKEN_ENDPOINT = "/opt/gitlab/etc/mattermost/env/MM_GITLABSETTINGS_TOKENENDPOINT"


@pytest.fixture(scope="module")
def product(base: Path, deb: Path) -> Iterator[Product]:
    """A server whose token endpoint has https with a self-signed certificate."""
    with Lab(base=base) as lab:
        install(lab, Spec())
        product = install_product(lab, deb)
        subject = ("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}")
        lab.run(
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject),
            *("-keyout", "/root/key.pem", "-out", "/root/cert.pem"),
        )
        front = ("/lab/src/tests/lab/fakes/tls_front.py", "/root/cert.pem", "/root/key.pem")
        lab.popen(PYTHON, *front)
        lab.write(TOKEN_ENDPOINT, f"https://{HOST}/oauth/token")
        listening = ("ss", "--listening", "--tcp", "--numeric", "--no-header")
        wait_until(lambda: ":443" in lab.run(*listening).stdout, 10, "the https front")
        yield product


def probe(product: Product) -> Any:
    return product("sso", "check").document["probe"]


def test_an_untrusted_certificate_is_not_believed(product: Product) -> None:
    product.lab.run("rm", "--force", TRUSTED)
    assert probe(product) == "unknown"
    assert "certificate" in product.run("sso", "check").stdout


def test_omnibus_trusted_certificates_are_believed(product: Product) -> None:
    product.lab.run("cp", "/root/cert.pem", TRUSTED)
    assert probe(product) == "accepted"
