"""File descriptors: enough, or a warning with the numbers."""

from __future__ import annotations

import resource

from gateway.descriptors import SPARE, raise_limit, shortage


def test_what_does_not_fit_is_told() -> None:
    """A warning names the limit, what is asked for, and what to do; what fits is not worth a word."""
    assert shortage(1000 + 256 + SPARE, 1000, 256) == ""
    assert shortage(resource.RLIM_INFINITY, 10**9, 10**9) == ""
    text = shortage(1024, 20000, 512)
    assert "limit of file descriptors is 1024" in text
    assert f"need {20000 + 512 + SPARE}" in text
    assert "LimitNOFILE" in text


def test_the_limit_is_raised() -> None:
    """The soft limit becomes the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        assert raise_limit() == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
