"""Keys and users' tokens, made anew for each run in its own folder."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

LIFETIME = 86400


class Keys:
    """The keys in a folder, and tokens signed with them as they are asked for."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self._signing: dict[str, object] = {
            "hs256": secrets.token_urlsafe(48),
            "rs256": rsa.generate_private_key(65537, 2048),
            "es256": ec.generate_private_key(ec.SECP256R1()),
        }
        (folder / "hs256.secret").write_text(str(self._signing["hs256"]))
        (folder / "hs256.secret").chmod(0o600)
        for variant in ("rs256", "es256"):
            public = self._signing[variant].public_key()  # type: ignore[attr-defined]
            (folder / f"{variant}.pub.pem").write_bytes(
                public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            )

    def haproxy(self, variant: str) -> str:
        """What HAProxy's jwt_verify takes."""
        return str(self._signing["hs256"]) if variant == "hs256" else str(self.folder / f"{variant}.pub.pem")

    def tokens(self, variant: str, users: int) -> Path:
        """A file with a token a line."""
        path = self.folder / f"{variant}-{users}.tokens"
        if not path.exists():
            ends, key = int(time.time()) + LIFETIME, self._signing[variant]
            with path.open("w") as out:
                for number in range(users):
                    claims = {"sub": f"user-{number:06d}", "role": "member", "exp": ends}
                    out.write(jwt.encode(claims, key, variant.upper()) + "\n")  # type: ignore[arg-type]
        return path

    def token(self, variant: str) -> str:
        """The first user's."""
        return self.tokens(variant, 1).read_text().strip()
