# -*- test-case-name: tests.test_mint -*-
"""Makes tokens for trying things out: C{gateway token} and the demo. The daemon makes none."""

from __future__ import annotations

from typing import Any

from gateway.settings import JwtSettings


def mint(
    settings: JwtSettings,
    claims: dict[str, Any],
    lifetime: float,
    now: float,
    private_key: bytes | None = None,
) -> str:
    """
    A signed token of the first configured algorithm.

    @param lifetime: seconds.
    @param now: unix seconds.
    @param private_key: PEM; needed where the settings have a public key.
    @raise ValueError: when there is nothing to sign with.
    """
    import jwt  # noqa: PLC0415 - costs a tenth of a second

    if not settings.has_key:
        raise ValueError("[jwt] has no key: tokens come from the issuers alone")
    if settings.secret is not None:
        key: Any = settings.secret.reveal()
    elif private_key is not None:
        key = private_key
    else:
        raise ValueError("the configuration has a public key only; say --key PRIVATE.pem")
    moment = int(now)
    payload = {"iat": moment, "exp": moment + int(lifetime), **claims}
    try:
        return jwt.encode(payload, key, algorithm=settings.algorithms[0])
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise ValueError(f"this key can't sign {settings.algorithms[0]}: {error}") from None
