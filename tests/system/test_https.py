"""https upstreams: verified by name and authority, or not spoken to."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.system.tools import Upstream, gateway


def certify(folder: Path, name: x509.GeneralName) -> None:
    """A certificate for a name, signed by itself: ca.pem and key.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([name]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "ca.pem").write_bytes(made.public_bytes(ser.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption()))


class Secure(Upstream):
    """An upstream over TLS."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "ca.pem", folder / "key.pem")

    def _serve(self, sock: object) -> None:
        try:
            wrapped = self.context.wrap_socket(sock, server_side=True)  # type: ignore[arg-type]
        except (ssl.SSLError, OSError):
            return
        self._sockets.append(wrapped)
        super()._serve(wrapped)


@pytest.mark.parametrize(
    ("name", "ca", "status"),
    [
        (x509.IPAddress(ipaddress.ip_address("127.0.0.1")), "ca.pem", 200),
        (x509.DNSName("somebody.else"), "ca.pem", 502),
        (x509.IPAddress(ipaddress.ip_address("127.0.0.1")), "", 502),
    ],
)
def test_verified_or_not_at_all(tmp_path: Path, name: x509.GeneralName, ca: str, status: int) -> None:
    """A certificate for the name, signed by ca_file: 200; another name or authority: 502, nothing sent."""
    certify(tmp_path, name)
    upstream = Secure(tmp_path)
    routes = f"[route /secure]\nupstream = https://127.0.0.1:{upstream.port}\n" + (f"upstream.ca_file = {ca}" if ca else "")
    try:
        with gateway(tmp_path, upstream, routes=routes) as daemon:
            assert [daemon.get("/secure/x").status for _ in range(3)] == [status] * 3
            assert daemon.rows(3)[0]["upstream"] == f"https://127.0.0.1:{upstream.port}"
        assert len(upstream.calls) == (3 if status == 200 else 0)
    finally:
        upstream.stop()
    assert threading.active_count() < 50
