"""`serve --lan`: https on the local network with a certificate made on the spot."""

import http.client
import ssl
from datetime import timedelta

import pytest
from cryptography import x509

from diffusion.random_model import write_random_model
from genqueue import lan
from tests.genqueue.processes import Site, until


def test_the_certificate_names_the_addresses_and_is_kept(tmp_path):
    made = lan.certificate(tmp_path, ["192.0.2.7"])
    first = made.certificate.read_bytes()
    known = x509.load_pem_x509_certificate(first)
    names = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "192.0.2.7" in {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert made.key.stat().st_mode & 0o777 == 0o600
    assert lan.certificate(tmp_path, ["192.0.2.7"]).certificate.read_bytes() == first


def test_another_address_gets_another_certificate(tmp_path):
    first = lan.certificate(tmp_path, ["192.0.2.7"]).certificate.read_bytes()
    assert lan.certificate(tmp_path, ["192.0.2.8"]).certificate.read_bytes() != first


def test_a_certificate_is_made_anew_before_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(lan, "VALID_FOR", timedelta(days=20))
    first = lan.certificate(tmp_path, ["192.0.2.7"]).certificate.read_bytes()
    assert lan.certificate(tmp_path, ["192.0.2.7"]).certificate.read_bytes() != first


@pytest.fixture
def site(tmp_path):
    write_random_model(tmp_path / "models" / "tiny")
    running = Site(tmp_path / "data", tmp_path / "models", tmp_path / "log", "--lan")
    yield running
    running.stop()


def test_others_in_the_house_reach_it_by_the_printed_address(site):
    log = site.data.parent / "log"
    until(lambda: "Open https://" in log.read_text(), 30, "the address")
    printed = log.read_text().split("Open https://")[1].split("/")[0]
    host, port = printed.split(":")
    trusted = ssl.create_default_context(cafile=str(site.data / "lan" / "certificate.pem"))
    call = http.client.HTTPSConnection(host, int(port), context=trusted, timeout=20)
    call.request("GET", "/api/health")
    assert call.getresponse().status == 200
    call.close()
    assert "█" in log.read_text() or "▄" in log.read_text(), "the QR code"
