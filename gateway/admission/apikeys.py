# -*- test-case-name: tests.admission.test_apikeys -*-
"""
Lets a request in with a key that is on file and has not expired; refuses any other with 401.

The file knows keys by their SHA-256 only: 256 random bits need no salt and no slow hash, and
whoever reads the file can't call with what is in it. A key is found by its digest, so nothing
about another key can be learned from how long the search takes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from gateway.admission.identity import Identity, KeyIdentity, field_text
from gateway.admission.key_limits import KeyLimits, Windows
from gateway.verdicts import Reason, Refused

#: What every key begins with, so that people and scanners for leaked secrets know it.
PREFIX = "gwk_"

#: Bytes of a file that are read at most.
MAX_FILE = 64 << 20

#: Different limits in a file: each is a table of counters.
MAX_LIMITS = 1000

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM, _CHECK = 43, 6  # digits of 256 bits, and of a CRC-32
_KEY = re.compile(rb"gwk_[0-9A-Za-z]{49}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WORDS = ("sha256", "user", "role", "scopes", "expires", "plan", "limits", "created")

CHALLENGE = b'WWW-Authenticate: ApiKey realm="gateway"\r\n'
NO_KEY = Refused(Reason.NO_TOKEN, lines=CHALLENGE)
UNKNOWN = Refused(Reason.KEY, lines=CHALLENGE)
EXPIRED = Refused(Reason.EXPIRED, lines=CHALLENGE)


def new_key() -> str:
    """A key: the prefix, 256 random bits, and a checksum that shows a mistyped one."""
    random = _base62(secrets.randbits(256), _RANDOM)
    return PREFIX + random + _base62(zlib.crc32(random.encode()), _CHECK)


def is_key(raw: bytes) -> bool:
    """Whether that has a key's form, and its checksum is right."""
    if _KEY.fullmatch(raw) is None:
        return False
    random, check = raw[4 : 4 + _RANDOM], raw[4 + _RANDOM :]
    return _base62(zlib.crc32(random), _CHECK).encode() == check


def digest_of(raw: bytes) -> bytes:
    """As what a key is kept."""
    return hashlib.sha256(raw).digest()


def _base62(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, 62)
        text = _DIGITS[digit] + text
    return text


@dataclass(slots=True)
class Key:
    """
    One line of the file.

    @ivar expires: unix seconds; infinite: never.
    @ivar plan: of the rate limit; empty: none.
    @ivar created: unix seconds; C{None}: nobody knows, so it counts as older than anything.
    @ivar limits: of its own, (limit, seconds) of each window; empty: none.
    """

    name: str
    digest: bytes = field(repr=False)
    user: str
    role: str = ""
    scopes: tuple[str, ...] = ()
    expires: float = float("inf")
    plan: str = ""
    limits: Windows = ()
    created: float | None = None
    identity: Identity | None = field(default=None, repr=False, compare=False)

    @property
    def line(self) -> str:
        """As it stands in the file."""
        words = [self.name, f"sha256={self.digest.hex()}", f"user={_spelled(self.user)}"]
        words += [f"role={_spelled(self.role)}"] if self.role else []
        words += [f"scopes={','.join(map(_spelled, self.scopes))}"] if self.scopes else []
        words += [f"expires={moment(self.expires)}"] if self.expires != float("inf") else []
        words += [f"plan={_spelled(self.plan)}"] if self.plan else []
        words += [f"limits={spelled_limits(self.limits)}"] if self.limits else []
        words += [f"created={moment(self.created)}"] if self.created is not None else []
        return " ".join(words)


def _spelled(text: str) -> str:
    return quote(text, safe="!$&'()*+/:;@~-._")


def spelled_limits(windows: Windows) -> str:
    """As they stand in the file: C{100/1m,5000/1d}."""
    from gateway.settings.option import spelled  # noqa: PLC0415 - it reads keys, too

    return ",".join(f"{limit}/{spelled(seconds)}" for limit, seconds in windows)


def read_limits(text: str) -> Windows:
    """
    The windows of C{limits=}, as C{[ratelimit] limits} has them.

    @raise ValueError: when they are none.
    """
    from gateway.settings.limits import WINDOWS  # noqa: PLC0415 - it reads keys, too
    from gateway.settings.option import BadValue  # noqa: PLC0415

    try:
        found: Windows = WINDOWS.parse(text)
    except BadValue:
        found = ()
    if not found:
        raise ValueError(f"expected {WINDOWS.expected}, none of which makes another idle")
    return found


def moment(seconds: float) -> str:
    """A time as the file has it: C{2027-01-31T12:00:00Z}."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_moment(text: str) -> float:
    """
    Unix seconds of a date or a time in UTC (RFC 3339).

    @raise ValueError: when it is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("expected a time such as 2027-01-31 or 2027-01-31T12:00:00Z") from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def read_line(line: str) -> Key:
    """
    One line of the file.

    @raise ValueError: says what is wrong with it; never what is in it.
    """
    name, *words = line.split()
    if NAME.fullmatch(name) is None:
        raise ValueError("expected a name of at most 64 letters, digits, dots, dashes")
    found: dict[str, str] = {}
    for word in words:
        option, equals, value = word.partition("=")
        if not equals or option not in _WORDS or not value:
            raise ValueError(f"expected {', '.join(f'{each}=…' for each in _WORDS)}")
        if option in found:
            raise ValueError(f"{option} stands there twice")
        found[option] = value
    if _DIGEST.fullmatch(found.get("sha256", "")) is None:
        raise ValueError("expected sha256= and 64 hexadecimal digits in lower case")
    user, role = unquote(found.get("user", "")), unquote(found.get("role", ""))
    if field_text(user) is None:
        raise ValueError("expected user=, a name that may be a header's value")
    if role and field_text(role) is None:
        raise ValueError("role= is no name that may be a header's value")
    scopes = tuple(unquote(each) for each in found.get("scopes", "").split(",") if each)
    if any(" " in scope for scope in scopes):
        raise ValueError("a scope has no blank in it")
    expires = read_moment(found["expires"]) if "expires" in found else float("inf")
    digest = bytes.fromhex(found["sha256"])
    limits = _limits(found)
    plan = unquote(found.get("plan", ""))
    created = read_moment(found["created"]) if "created" in found else None
    return Key(name, digest, user, role, scopes, expires, plan, limits, created)


def _limits(found: Mapping[str, str]) -> Windows:
    if "limits" not in found:
        return ()
    if "plan" in found:
        raise ValueError("limits= or plan=, not both")
    try:
        return read_limits(found["limits"])
    except ValueError as error:
        raise ValueError(f"limits=: {error}") from None


def read_lines(text: str) -> Iterator[tuple[int, Key]]:
    """
    All keys of a file, with their lines' numbers. Empty lines and those that begin with C{#}
    say nothing.

    @raise ValueError: at the first line that is wrong, with its number.
    """
    names: set[str] = set()
    digests: set[bytes] = set()
    limits: set[Windows] = set()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key = read_line(line)
            if key.name in names:
                raise ValueError(f"there is a key {key.name} already")
            if key.digest in digests:
                raise ValueError("this key stands there twice")
            limits.add(key.limits)
            if len(limits) > MAX_LIMITS:
                raise ValueError(f"more than {MAX_LIMITS} different limits=; use plans")
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        names.add(key.name)
        digests.add(key.digest)
        yield number, key


@dataclass(frozen=True, slots=True)
class KeyRules:
    """
    What is made of a key's line.

    @ivar default_role: of a key without one.
    @ivar plan_claim: as which claim its plan is told to the rate limit; empty: not at all.
    @ivar limits: makes rules of its own limits; C{None}: nobody counts.
    """

    default_role: str = "user"
    plan_claim: str = ""
    limits: KeyLimits | None = None


class Keys:
    """The keys of one file, by their digests."""

    def __init__(self, keys: Mapping[bytes, Key], rules: KeyRules) -> None:
        self._keys = keys
        self._rules = rules

    @classmethod
    def read(cls, text: str, rules: KeyRules) -> Keys:
        """
        The keys of a file's text.

        @raise ValueError: see L{read_lines}.
        """
        return cls({key.digest: key for _, key in read_lines(text)}, rules)

    def identify(self, raw: bytes, now: float) -> Identity | Refused:
        """Who calls with that key; C{now} is unix seconds."""
        if _KEY.fullmatch(raw) is None:
            return UNKNOWN
        digest = digest_of(raw)
        key = self._keys.get(digest)
        if key is None or not hmac.compare_digest(key.digest, digest):
            return UNKNOWN
        if key.expires <= now:
            return EXPIRED
        if key.identity is None:
            key.identity = _identity(key, self._rules)
        return key.identity or UNKNOWN

    @property
    def limits(self) -> set[Windows]:
        """All limits of their own."""
        return {key.limits for key in self._keys.values()}

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<{len(self._keys)} API keys>"


def _identity(key: Key, rules: KeyRules) -> Identity | None:
    role = key.role or rules.default_role
    claims: dict[str, Any] = {"sub": key.user, "role": role, "key": key.name}
    if key.scopes:
        claims["scope"] = " ".join(key.scopes)
    if key.plan and rules.plan_claim:
        claims[rules.plan_claim] = key.plan
    if key.created is not None:
        claims["iat"] = int(key.created)
    user, role_text = field_text(key.user), field_text(role)
    if user is None or role_text is None:
        return None
    headers = b"X-User-ID: %s\r\nX-User-Role: %s\r\n" % (user, role_text)
    rate = rules.limits.of(key.limits) if key.limits and rules.limits is not None else None
    return KeyIdentity(key.user, role, headers, claims, key.expires, key.name, rate)
