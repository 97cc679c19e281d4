"""What `serve --lan` needs: this machine's addresses, a certificate, a QR code.

WebGPU and crypto.subtle exist on https and localhost only, so the local network gets https, with
a certificate that this machine signs itself; browsers say so once.
"""

import contextlib
import io
import ipaddress
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import segno
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.conf import settings

VALID_FOR = timedelta(days=397)  # browsers refuse longer ones
RENEWED_BEFORE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Two PEM files."""

    certificate: Path
    key: Path

    def endpoint(self, port: int) -> str:
        """The Twisted endpoint that listens with it on all interfaces."""
        key, certificate = (str(path).replace(":", "\\:") for path in (self.key, self.certificate))
        return f"ssl:{port}:interface=0.0.0.0:privateKey={key}:certKey={certificate}"


def addresses() -> list[str]:
    """This machine's IPv4 addresses on local networks, the one to the router first."""
    found = []
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with probe, contextlib.suppress(OSError):  # no route: not on a network
        probe.connect(("192.0.2.1", 9))  # a documentation address: UDP, nothing is sent
        found.append(probe.getsockname()[0])
    with contextlib.suppress(socket.gaierror):  # its own name may be unknown to the machine
        own = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        found += [str(info[4][0]) for info in own]
    others = [address for address in dict.fromkeys(found) if not address.startswith("127.")]
    return others or ["127.0.0.1"]


def allow(names: list[str], port: int) -> None:
    """Let pages be asked for under these addresses, too."""
    for name in [*names, socket.gethostname(), f"{socket.gethostname()}.local"]:
        if name not in settings.ALLOWED_HOSTS:
            settings.ALLOWED_HOSTS.append(name)
        origin = f"https://{name}:{port}"
        if origin not in settings.CSRF_TRUSTED_ORIGINS:
            settings.CSRF_TRUSTED_ORIGINS.append(origin)


def certificate(folder: Path, names: list[str]) -> Certificate:
    """The one in the folder if it names these addresses and is valid for a month, or a new one."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    if not _still_good(made, names):
        _make(made, names)
    return made


def _still_good(made: Certificate, names: list[str]) -> bool:
    if not (made.certificate.exists() and made.key.exists()):
        return False
    known = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    named = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    of_certificate = {str(address) for address in named.get_values_for_type(x509.IPAddress)}
    lasts = known.not_valid_after_utc - datetime.now(UTC) > RENEWED_BEFORE
    return lasts and set(names) <= of_certificate


def _make(made: Certificate, names: list[str]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "p2pweb on this machine")])
    own_name = socket.gethostname()
    alternatives: list[x509.GeneralName] = [x509.DNSName("localhost")]
    if own_name.isascii():
        alternatives += [x509.DNSName(own_name), x509.DNSName(f"{own_name}.local")]
    alternatives += [
        x509.IPAddress(ipaddress.ip_address(name)) for name in dict.fromkeys([*names, "127.0.0.1"])
    ]
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    made.key.touch(mode=0o600)
    made.key.chmod(0o600)
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    made.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def qr_code(url: str) -> str:
    """The address as a QR code for a terminal with dark or light background."""
    text = io.StringIO()
    segno.make(url, error="l").terminal(text, compact=True)
    return text.getvalue()
