# -*- test-case-name: tests.http.test_channel -*-
"""The engine's seams: a streamed request body, who takes it, and who takes an answer."""

from __future__ import annotations

from zope.interface import Attribute, Interface


class IBodyTaker(Interface):
    """Who takes a request's body while it arrives."""

    def bodyReceived(data: bytes) -> None:  # noqa: N805
        """Some bytes of the body, framing taken off."""

    def bodyEnded(trailers: list[bytes]) -> None:  # noqa: N805
        """The body is complete. C{trailers} are the validated trailer lines as sent."""

    def bodyFailed(why: str) -> None:  # noqa: N805
        """
        The rest will not come: C{client_gone}, C{request} (bad framing), C{timeout} or
        C{body_size}. Nothing that was received may be taken for complete.
        """


class IStreamedBody(Interface):
    """
    A request's body on its way. A request without this interface has its whole body in
    C{request.content} instead.
    """

    length = Attribute("Declared bytes, or -1 when chunked.")
    received = Attribute("Bytes taken off the wire so far.")

    def limit(most: int) -> None:  # noqa: N805
        """Fail with C{body_size} as soon as more than C{most} bytes have arrived."""

    def deliver(taker: IBodyTaker) -> None:  # noqa: N805
        """
        Hand over what has arrived and all that follows. Sends C{100 Continue} first to a
        client that waits for it.
        """

    def pause() -> None:  # noqa: N805
        """Stop reading the client's socket."""

    def resume() -> None:  # noqa: N805
        """Read it again."""
