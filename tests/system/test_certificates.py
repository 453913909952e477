"""Client certificates: told by a trusted proxy to the real daemon, and shown in a TLS handshake to our site."""

from __future__ import annotations

import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted
from OpenSSL import crypto
from twisted.internet import reactor, threads  # noqa: TID251
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    trustRootFromCertificates,
)

from gateway.service import GatewayService
from gateway.settings import parse
from tests.admission.proofs import Authority, Issued, Sender, name_of
from tests.system.tools import SECRET, Answer, Daemon, Upstream, gateway, request, token

authority = Authority()
alice = authority.issue(name_of(CN="alice"))
stranger = Authority().issue(name_of(CN="alice"))


def configured(folder: Path, **more: str) -> str:
    """[mtls]."""
    (folder / "ca.pem").write_bytes(authority.pem)
    options = {"mode": "accept", "ca_file": "ca.pem", "header": "X-Client-Cert", **more}
    return "[mtls]\n" + "\n".join(f"{name} = {value}" for name, value in options.items())


@pytest.fixture
def daemon(tmp_path: Path, upstream: Upstream) -> Iterator[Daemon]:
    """A gateway behind a trusted proxy."""
    routes = f"[route /both]\nupstream = http://127.0.0.1:{upstream.port}\nmtls.mode = require"
    with gateway(tmp_path, upstream, rest=configured(tmp_path, user="subject.CN", role="machine"), routes=routes,
                 gateway="trusted_proxies = 127.0.0.1") as found:  # fmt: skip
        yield found


def told(issued: Issued) -> str:
    """As nginx tells it."""
    return f"X-Client-Cert: {quote(issued.pem, safe='')}"


def bound(issued: Issued) -> str:
    """A token that is bound to a certificate."""
    return token(cnf={"x5t#S256": issued.thumbprint})


def test_a_bound_token(daemon: Daemon, upstream: Upstream) -> None:
    """It passes with its certificate, whoever has issued that, and not without it or with another, however often."""
    for issued, other in ((alice, stranger), (stranger, alice)):
        tok = bound(issued)
        for _ in range(3):
            assert daemon.get("/api/v1/users/7", told(issued), tok=tok).status == 200
            for fields in ((), (told(other),), ("X-Client-Cert:",)):
                answer = daemon.get("/api/v1/users/7", *fields, tok=tok)
                assert (answer.status, answer.error) == (401, "Token validation failed")
                assert 'error="invalid_token"' in answer["WWW-Authenticate"]
    assert len(upstream.calls) == 6
    assert b"BEGIN" not in upstream.log
    assert b"X-Client-Cert" not in upstream.log


def test_rfc_9440(tmp_path: Path, upstream: Upstream) -> None:
    """The standard header is read as well."""
    with gateway(tmp_path, upstream, rest=configured(tmp_path, header="Client-Cert"), gateway="trusted_proxies = 127.0.0.1") as daemon:
        field = f"Client-Cert: :{b64encode(alice.der).decode()}:"
        assert daemon.get("/api/v1/users/7", field, tok=bound(alice)).status == 200
        assert b"Client-Cert" not in upstream.log


def test_nobody_else_is_believed(tmp_path: Path, upstream: Upstream) -> None:
    """Who is no trusted proxy can tell of certificates what he likes: nothing of it counts, or goes on."""
    with gateway(tmp_path, upstream, rest=configured(tmp_path, user="subject.CN"), gateway="trusted_proxies = 192.0.2.1") as daemon:
        assert daemon.get("/api/v1/users/7", told(alice), tok=None).status == 401
        assert daemon.get("/api/v1/users/7", told(alice), tok=bound(alice)).status == 401
        spellings = (told(alice), told(alice).replace("-", "_", 2), "Client-Cert: :AAAA:", "client_cert: x", "Client-Cert-Chain: x")
        assert daemon.get("/api/v1/users/7", *spellings).status == 200
        assert b"lient" not in upstream.log.split(b"Host", 1)[1].replace(b"client", b"")
        assert b"AAAA" not in upstream.log


def test_a_certificate_as_the_identity(daemon: Daemon, upstream: Upstream) -> None:
    """Without a token, who has a certificate of ours is who it says; a stranger's of the same name is nobody."""
    answer = daemon.get("/api/v1/users/7", told(alice), tok=None)
    assert answer.status == 200
    assert (upstream.calls[-1].values("X-User-ID"), upstream.calls[-1].values("X-User-Role")) == (["alice"], ["machine"])
    for fields in ((told(stranger),), ()):
        answer = daemon.get("/api/v1/users/7", *fields, tok=None)
        assert (answer.status, answer.error) == (401, "Missing or invalid Authorization header")
    assert daemon.rows(1, "user_id = 'alice'")[0]["detail"] == f"certificate:{alice.thumbprint}"
    assert daemon.get("/api/v1/users/7", told(alice), tok=token("bob")).status == 200
    assert upstream.calls[-1].values("X-User-ID") == ["bob"]


def test_as_the_second_proof(daemon: Daemon) -> None:
    """A route that requires a certificate takes no token without one of ours, known or not."""
    for _ in range(3):
        assert daemon.get("/both/x", told(alice)).status == 200
        assert daemon.get("/api/v1/users/7").status == 200
        for fields in ((), (told(stranger),)):
            answer = daemon.get("/both/x", *fields)
            assert (answer.status, answer.error) == (401, "Token validation failed")
    assert {row["reason"] for row in daemon.rows(1, "status = 401")} == {"certificate"}


def test_unreadable(daemon: Daemon) -> None:
    """A proxy's header that nobody can read is 400."""
    for fields in (("X-Client-Cert: x",), (told(alice), told(alice))):
        assert daemon.get("/api/v1/users/7", *fields).error == "Bad request"
    assert {row["reason"] for row in daemon.rows(2)} == {"certificate_unreadable"}


def test_mistakes(tmp_path: Path) -> None:
    """What is missing or wrong in [mtls] is found before the start."""
    text = f"[jwt]\nsecret = {'s' * 40}\n[audit]\ndatabase = {tmp_path}/a\n[route /a]\nupstream = http://127.0.0.1:1\n"
    (tmp_path / "leaf.pem").write_bytes(alice.pem)
    for options, says in (
        ("mode = require", "[mtls] ca_file: missing; mode = require"), ("user = san.uri", "[mtls] ca_file: missing; user"), ("ca_file = none.pem", "can't be read"),
        ("ca_file = leaf.pem", "CN=alice is no authority"), ("header = X-Client-Cert", "[mtls] header: there are no trusted_proxies"),
        ("header = X-API-Key", "means something else"), ("user = subject.X", "one of none"),
    ):  # fmt: skip
        with pytest.raises(Exception, match="problem") as error:
            parse(f"[mtls]\n{options}\n{text}", {}, directory=str(tmp_path))
        assert says in str(error.value)


# -- in the handshake


class TLS:
    """Our site behind a TLS listener that asks for certificates, in this process."""

    def __init__(self, folder: Path, upstream: Upstream, options: str) -> None:
        text = (
            f"[jwt]\nsecret = {SECRET}\n[audit]\ndatabase = {folder}/audit.sqlite3\n{options}\n"
            f"[route /api]\nupstream = http://127.0.0.1:{upstream.port}\n"
        )
        self.folder = folder
        self.service = GatewayService(parse(text, {}, directory=str(folder)), reactor)
        self.service.sweep.start()
        server = Authority("localhost").issue(name_of(CN="localhost"), usage=None)
        key = crypto.load_privatekey(crypto.FILETYPE_PEM, server.key_pem)
        own = PrivateCertificate.fromCertificateAndKeyPair(Certificate.loadPEM(server.pem), KeyPair(key))
        roots = trustRootFromCertificates([Certificate.loadPEM(authority.pem)])
        context = CertificateOptions(privateKey=own.privateKey.original, certificate=own.original, trustRoot=roots)
        # Asked for, but not needed: the gateway says who needs one.
        context.requireCertificate = False
        self.port: Any = reactor.listenSSL(0, self.service.site, context, interface="127.0.0.1")  # type: ignore[attr-defined]

    async def stop(self) -> None:
        """End all."""
        await self.port.stopListening()
        self.service.site.cut()
        self.service.generation.targets.abort()
        self.service.sweep.stop()

    def ask(self, issued: Issued | None, *raws: bytes, session: Any = None) -> tuple[list[Answer], Any]:
        """Requests on one connection of a client with that certificate; blocks."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if issued is not None:
            (self.folder / "client.pem").write_bytes(issued.pem + issued.key_pem)
            context.load_cert_chain(self.folder / "client.pem")
        plain = socket.create_connection(("127.0.0.1", self.port.getHost().port), 15)
        answers = []
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as secure:
            for raw in raws:
                secure.sendall(raw)
                data = b""
                while b"\r\n\r\n" not in data:
                    data += secure.recv(65536) or pytest.fail("closed")
                head, _, body = data.partition(b"\r\n\r\n")
                answer = Answer(head, body, True)
                while len(answer.body) < int(answer["Content-Length"]):
                    answer.body += secure.recv(65536)
                answers.append(answer)
            return answers, secure.session


async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    """Blocking calls of a client."""
    return await threads.deferToThread(call, *arguments)


@pytest_twisted.ensureDeferred
async def test_shown_in_the_handshake(tmp_path: Path, upstream: Upstream) -> None:
    """Who shows a certificate is who it says, or may use a token that is bound to it; who shows none is nobody."""
    site = TLS(tmp_path, upstream, configured(tmp_path, user="subject.CN", header=""))
    try:
        alone = request("/api/x", tok=None)
        held, other = request("/api/x", tok=bound(alice)), request("/api/x", tok=bound(stranger))
        plain = request("/api/x", tok=token("bob"))
        answers, _ = await in_thread(site.ask, alice, alone, held, other, plain, held, alone)
        assert [answer.status for answer in answers] == [200, 200, 401, 200, 200, 200]
        assert [call.values("X-User-ID") for call in upstream.calls] == [["alice"], ["alice"], ["bob"], ["alice"], ["alice"]]
        answers, _ = await in_thread(site.ask, None, alone, held, plain)
        assert [answer.status for answer in answers] == [401, 401, 200]
        forged = request("/api/x", f"X-Client-Cert: {quote(alice.pem, safe='')}", tok=None)
        answers, _ = await in_thread(site.ask, None, forged)
        assert answers[0].status == 401
    finally:
        await site.stop()


@pytest_twisted.ensureDeferred
async def test_a_trusted_proxy_s_own_certificate(tmp_path: Path, upstream: Upstream) -> None:
    """What a trusted proxy shows for itself says nothing about its clients."""
    rest = configured(tmp_path, user="subject.CN") + "\n[gateway]\ntrusted_proxies = 127.0.0.1"
    site = TLS(tmp_path, upstream, rest)
    try:
        bob = authority.issue(name_of(CN="bob"))
        alone, client = request("/api/x", tok=None), request("/api/x", told(bob), tok=None)
        answers, _ = await in_thread(site.ask, alice, alone, client)
        assert [answer.status for answer in answers] == [401, 200]
        assert upstream.calls[-1].values("X-User-ID") == ["bob"]
    finally:
        await site.stop()


@pytest_twisted.ensureDeferred
async def test_required(tmp_path: Path, upstream: Upstream) -> None:
    """Where a certificate is required, a token without one is refused, on a connection with one it passes."""
    site = TLS(tmp_path, upstream, configured(tmp_path, mode="require", header=""))
    try:
        plain = request("/api/x", tok=token("bob"))
        answers, _ = await in_thread(site.ask, alice, plain, plain)
        assert [answer.status for answer in answers] == [200, 200]
        answers, _ = await in_thread(site.ask, None, plain, plain)
        assert [answer.status for answer in answers] == [401, 401]
    finally:
        await site.stop()


@pytest_twisted.ensureDeferred
async def test_dpop_over_tls(tmp_path: Path, upstream: Upstream) -> None:
    """A proof names https where the connection is TLS."""
    site = TLS(tmp_path, upstream, "[dpop]\nmode = accept")
    try:
        sender = Sender()
        tok = sender.token(SECRET)
        raws = [
            request("/api/x", f"Authorization: DPoP {tok}", f"DPoP: {sender.prove('GET', f'{scheme}://gateway.test/api/x', tok, scheme)}", tok=None)
            for scheme in ("https", "http")
        ]
        answers, _ = await in_thread(site.ask, None, *raws)
        assert [answer.status for answer in answers] == [200, 401]
    finally:
        await site.stop()


