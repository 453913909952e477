# -*- test-case-name: tests.test_verdicts -*-
"""
Every way a request can be refused: machine-readable code, HTTP status, public sentence.

A core lets a request through by returning what it found out (an identity, a count)
or refuses it by returning L{Refused}; nothing here decides, reads or writes.
The sentences are the public contract: clients match on them, so they never change.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Reason(Enum):
    """
    Why a request was refused. The value is (code, status, sentence).

    The code goes to the audit log's C{reason} column, the sentence to the client.
    """

    # Stage 1: one unambiguous request (RFC 9112)
    BAD_REQUEST = ("request", 400, "Bad request")
    PATH = ("path", 400, "Bad request")
    AUTHORIZATION_REPEATED = ("authorization_repeated", 400, "Bad request")
    CLIENT_ADDRESS = ("client_address", 400, "Bad request")
    CREDENTIALS = ("credentials", 400, "Bad request")
    CERTIFICATE_UNREADABLE = ("certificate_unreadable", 400, "Bad request")
    REQUEST_TIMEOUT = ("request_timeout", 408, "Request timeout")
    URI_TOO_LONG = ("uri_too_long", 414, "URI too long")
    FIELDS_TOO_LARGE = ("fields_too_large", 431, "Request header fields too large")
    NOT_IMPLEMENTED = ("not_implemented", 501, "Not implemented")
    HTTP_VERSION = ("http_version", 505, "HTTP version not supported")
    # Stage 2: the client's address
    ADDRESS = ("address", 403, "IP address not allowed")
    # Stage 4: enough is under way
    IN_FLIGHT = ("in_flight", 503, "Service unavailable")
    # Stage 5: authentication
    NO_TOKEN = ("no_token", 401, "Missing or invalid Authorization header")
    SIGNATURE = ("signature", 401, "Invalid token signature")
    EXPIRED = ("expired", 401, "Token expired")
    TOKEN = ("token", 401, "Token validation failed")
    KEY = ("key", 401, "Token validation failed")
    CERTIFICATE = ("certificate", 401, "Token validation failed")
    PROOF = ("proof", 401, "Token validation failed")
    PROOF_NONCE = ("proof_nonce", 401, "Token validation failed")
    PROOF_MEMORY = ("proof_memory", 503, "Service unavailable")
    REVOKED = ("revoked", 401, "Token validation failed")
    KEYS = ("keys", 503, "Service unavailable")
    INTROSPECTION = ("introspection", 503, "Service unavailable")
    LIMIT_REFUSED = ("limit_refused", 429, "Rate limit exceeded")
    # Stage 6: the rate limit
    LIMIT = ("limit", 429, "Rate limit exceeded")
    LIMIT_KEYS = ("limit_keys", 429, "Rate limit exceeded")
    LIMIT_LOCAL = ("limit_local", 429, "Rate limit exceeded")
    STORE = ("store", 503, "Service unavailable")
    # Stage 7 and 8: where to, and is this user allowed there
    ROUTE = ("route", 404, "Route not found")
    POLICY = ("policy", 403, "Forbidden")
    METHOD = ("method", 405, "Method not allowed")
    # Stage 9 and 10
    BODY_SIZE = ("body_size", 413, "Request body too large")
    CIRCUIT = ("circuit", 503, "Service unavailable")
    # Stage 11: forwarding
    QUEUE = ("upstream_queue", 503, "Service unavailable")
    UPSTREAM = ("upstream", 502, "Bad gateway")
    UPSTREAM_TIMEOUT = ("upstream_timeout", 504, "Gateway timeout")
    # Ours
    INTERNAL = ("internal", 500, "Internal server error")

    def __init__(self, code: str, status: int, sentence: str) -> None:
        self.code = code
        self.status = status
        self.sentence = sentence


@dataclass(slots=True)
class Refused:
    """
    A stage's refusal.

    @ivar reason: which of the known ones.
    @ivar retry_after: seconds after which trying again makes sense, rounded up, or C{None}.
    @ivar lines: further header lines of the answer, each ending in CRLF
        (C{b"Allow: GET\\r\\n"}), built from trusted text only.
    @ivar limit: the limit that was exceeded, by the name it has in the settings (C{100/60s});
        told to the client and to the audit.
    @ivar detail: more about the reason, a text that many refusals share; for the audit only.
    """

    reason: Reason
    retry_after: int | None = None
    lines: bytes = b""
    limit: str = ""
    detail: str = ""
