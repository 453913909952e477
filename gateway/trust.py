# -*- test-case-name: tests.system.test_upstreams -*-
"""
Lets in a server whose certificate is valid for its host name (service-identity, RFC 9525);
refuses every other. There is no option to turn that off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def signers_of(ca_file: str) -> bytes:
    """What is in the file of certificates; empty where none is named: the system's."""
    return Path(ca_file).read_bytes() if ca_file else b""


def client_tls(host: str, signers: bytes) -> Any:
    """
    Options that verify a server's certificate for its host name.

    @param signers: certificates in PEM; empty: the system's.
    """
    # Imported late: pyOpenSSL costs start-up time that plain connections need not pay.
    from twisted.internet._sslverify import trustRootFromCertificates  # noqa: PLC0415
    from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust  # noqa: PLC0415

    trust = platformTrust()
    if signers:
        end = b"-----END CERTIFICATE-----"
        certificates = [part + end for part in signers.split(end)[:-1]]
        trust = trustRootFromCertificates([Certificate.loadPEM(pem) for pem in certificates])
    return optionsForClientTLS(host, trustRoot=trust)
