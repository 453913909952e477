# -*- test-case-name: tests.http.test_heads -*-
"""What a parser raises instead of guessing."""

from __future__ import annotations


class HeadFault(Exception):
    """
    The bytes are no unambiguous message.

    @ivar status: what a client is told; C{502} in an upstream's answer.
    """

    def __init__(self, status: int, why: str = "") -> None:
        super().__init__(why)
        self.status = status
