# -*- test-case-name: tests.test_express -*-
"""
Lets the compiled half of the hot path (C{gateway/compiled}) in where it was built and is wanted;
everything works without it, from the same sources but for that one, only dearer.

A core is what both halves need of an object: its class here is a place holder, and the compiled one
keeps the same attributes where it finds them without a look-up. Who inherits one sets them as any
others.

C{GATEWAY_COMPILED=off} in the environment leaves it out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

#: Whether the compiled half is there and used.
COMPILED = False

if not TYPE_CHECKING and os.environ.get("GATEWAY_COMPILED", "on") != "off":
    try:
        from gateway.compiled.express import (
            AuditCore,
            ChannelCore,
            CutsCore,
            EntryCore,
            FlyingCore,
            HeadCore,
            HeadsCore,
            IdentityCore,
            Lane,
            MemoCore,
            PoolCore,
            Rate,
            Refusal,
            ReplyCore,
            SiteCore,
            StreamCore,
            SweepCore,
            UpstreamCore,
            Way,
            send_out,
        )

        COMPILED = True
    except ImportError:
        pass

if TYPE_CHECKING or not COMPILED:

    class StreamCore:
        """Of L{gateway.reactor.stream.Stream}."""

        _fast = False
        _out = b""
        _uv: Any = None

    def send_out(outbox: list[Any], failed: Callable[[str], object]) -> None:
        """What was written in this turn leaves; C{failed} is told of who can't."""
        for stream in outbox:
            # L{Stream._send}, one call shorter.
            out, uv = stream._out, stream._uv
            if out and uv is not None:
                stream._out = b""
                try:
                    uv.write(out)
                except Exception:
                    failed("a write failed")

    class AuditCore:
        """Of L{gateway.audit.writer.AuditWriter}."""

    class _Wired:
        def wired(self, transport: Any) -> None:
            """Only the compiled half wants to know."""

    class ChannelCore(_Wired):
        """Of L{gateway.http.channel.Channel}."""

        _request: Any

        @property
        def request(self) -> Any:
            """The request under way, or C{None}."""
            return self._request

    class UpstreamCore(_Wired):
        """Of L{gateway.http.client.UpstreamConnection}."""

    class PoolCore:
        """Of L{gateway.http.pool.Pool}."""

    class SiteCore:
        """Of L{gateway.http.site.Site}."""

    class SweepCore:
        """Of L{gateway.http.sweep.Sweep}."""

    class HeadsCore:
        """Of L{gateway.http.heads.RequestHeads}."""

    class Lane:
        """Of L{gateway.express.ExpressLane}."""

        def equip(self, tools: Any) -> None:
            """There is nothing to equip."""

    #: There are none.
    Rate: Any = None
    Refusal: Any = None
    Way: Any = None

    # These have slots: there are many of them, or they are looked at often.

    class MemoCore:
        """Of L{gateway.http.memo.Memo}."""

        __slots__ = ("young",)

    class CutsCore:
        """Of L{gateway.http.cuts.Cuts}."""

        __slots__ = ("_hits", "_until_review", "patterns")

    class FlyingCore:
        """Of L{gateway.admission.inflight.Flying}."""

        __slots__ = ("count",)

    class HeadCore:
        """Of L{gateway.http.heads.RequestHead}."""

        __slots__ = ()

    class ReplyCore:
        """Of L{gateway.http.response_heads.ResponseHead}."""

        __slots__ = ("closing", "length", "noted", "opening", "plain", "status")

    class IdentityCore:
        """Of L{gateway.admission.identity.Identity}."""

        __slots__ = ("expires", "headers", "not_before", "sub_key", "user")

    class EntryCore:
        """Of an entry of L{gateway.admission.token_cache.TokenCache}."""

        __slots__ = ("identity", "rules")
