# -*- test-case-name: tests.settings.test_proofs -*-
"""
[apikeys], [dpop] and [mtls] together with the rest, and with their files: refuses keys,
certificates and names that could not be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.admission.apikeys import KeyRules
from gateway.admission.certificates import Authorities
from gateway.keyfile import BadKeys, load, readable_by_others
from gateway.settings.checks import Lines
from gateway.settings.folder import Folder
from gateway.settings.secret import Secret

#: Names that mean something else already.
_TAKEN = frozenset(
    (
        "authorization", "cookie", "connection", "content-length", "content-type", "date", "expect",
        "forwarded", "host", "keep-alive", "origin", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade", "user-agent", "via", "x-forwarded-for", "x-forwarded-host",
        "x-forwarded-proto", "x-request-id", "x-user-id", "x-user-role", "dpop",
    )
)  # fmt: skip

#: RFC 2104 section 3: as long as the hash.
_SECRET = 32


def apikeys(values: dict[str, Any], lines: Lines, directory: str) -> list[str]:
    """[apikeys]: a field of its own, and a file in order, where there is one."""
    if values["header"].lower() in _TAKEN | {"client-cert", "client-cert-chain"}:
        lines.say("apikeys", "header", f"{values['header']} means something else already")
    if not values["file"]:
        return []
    path = values["file"] = str((Path(directory) / values["file"]).absolute())
    if not Path(path).exists():
        return [f"there is no {path} yet; gateway key add makes it"]
    try:
        load(path, KeyRules())
    except BadKeys as error:
        lines.say("apikeys", "file", str(error))
        return []
    mode = readable_by_others(path)
    return [f"{path} can be read by others than its owner"] if mode else []


def dpop(values: dict[str, Any], jwt_secret: Secret | None, lines: Lines) -> None:
    """[dpop]: a secret for nonces."""
    text = values["nonce_secret"]
    values["nonce_secret"] = None
    raw = text.encode("utf-8", "surrogateescape")
    if text and len(raw) < _SECRET:
        lines.say("dpop", "nonce_secret", f"has {len(raw)} bytes; expected at least {_SECRET}")
    elif text:
        values["nonce_secret"] = Secret(raw)
    elif values["nonce"] and jwt_secret is not None:
        values["nonce_secret"] = jwt_secret
    elif values["nonce"]:
        lines.say("dpop", "nonce_secret", "missing; nonces need it where [jwt] has no secret")


def mtls(values: dict[str, Any], modes: Sequence[str], taken: Sequence[str], lines: Lines,
         directory: Folder, proxies: bool) -> None:  # fmt: skip
    """
    [mtls]: authorities where they are needed, and a field of its own.

    @param modes: those of the common section and of all routes.
    @param taken: further names of fields that mean something else.
    """
    values["authorities"] = b""
    header = values["header"].lower()
    if header and (header in _TAKEN or header in [name.lower() for name in taken]):
        lines.say("mtls", "header", f"{values['header']} means something else already")
    if header and not proxies:
        lines.say("mtls", "header", "there are no trusted_proxies that could be believed")
    name = values["ca_file"]
    if name:
        try:
            pem = directory.read(name)
            Authorities(pem)
            values["authorities"] = pem
        except OSError as error:
            lines.say("mtls", "ca_file", f"{name} can't be read: {error.strerror}")
        except ValueError as error:
            lines.say("mtls", "ca_file", f"{name}: {error}")
    elif "require" in modes:
        lines.say("mtls", "ca_file", "missing; mode = require needs one")
    elif values["user"] != "none":
        lines.say("mtls", "ca_file", "missing; user needs one")
