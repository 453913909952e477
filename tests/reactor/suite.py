"""
Twisted's own reactor tests with this reactor as the one under test; run by trial in a
child process (see L{tests.reactor.test_twisted}).

What can't apply is in L{tests.reactor.table}, each with its reason. Such a test still runs: trial
takes its failure as expected, and reports its success, which the parent counts as a
failure. So the table can only shrink.
"""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.test.reactormixins import ReactorBuilder

from tests.reactor.builder import GatewayReactor
from tests.reactor.cases import CASES
from tests.reactor.table import NOT_OURS

MODULES = (
    "test_core", "test_fdset", "test_newtls", "test_process", "test_socket", "test_stdio",
    "test_tcp", "test_threads", "test_time", "test_tls", "test_udp", "test_unix",
)  # fmt: skip

#: Seconds for a test that is expected to hang, and for any other.
EXPECTED, PATIENCE = 0.5, 30.0

ReactorBuilder._reactors = ["tests.reactor.builder.GatewayReactor"]
ReactorBuilder.getTimeout = lambda self: EXPECTED if getattr(self, "expected", False) else PATIENCE  # type: ignore[method-assign]


def _expected(method: Callable[[Any], object], reason: str) -> Callable[[Any], object]:
    """A test that fails, and leaves nothing in the log for the next one."""

    def test(self: Any) -> object:
        self.expected = True
        self.addCleanup(self.flushLoggedErrors)
        self.addCleanup(gc.collect)
        return method(self)

    test.__name__ = test.__qualname__ = method.__name__
    test.todo = reason  # type: ignore[attr-defined]
    return test


def _patient(method: Callable[[Any], object]) -> Callable[[Any], object]:
    """A test that picks a free port and then takes it: someone else may have been faster."""

    def test(self: Any) -> object:
        for _ in range(4):
            with contextlib.suppress(CannotListenError):
                return method(self)
        return method(self)

    test.__name__ = test.__qualname__ = method.__name__
    return test


def _others_can_run_python() -> bool:
    """Whether a child of another user could start this interpreter (root only)."""
    if os.getuid() != 0:
        return True
    try:
        return not subprocess.run([sys.executable, "-c", ""], user=1, capture_output=True).returncode
    except OSError:
        return False


def _adjust(module: str, name: str, case: Any) -> None:
    for (where, beginning, test), reason in NOT_OURS.items():
        if where == module and name.startswith(beginning + "_"):
            setattr(case, test, _expected(getattr(case, test), reason))
    if name.startswith("TestBindAddressBuilder_"):
        for test in [each for each in dir(case) if each.startswith("test_bindAddress")]:
            setattr(case, test, _patient(getattr(case, test)))
    if module == "test_process" and not _OTHERS and hasattr(case, "test_changeUID"):
        case.test_changeUID = lambda self: None
        case.test_changeUID.skip = "this interpreter is root's alone"


_OTHERS = _others_can_run_python()

for _module in MODULES:
    for _name, _case in (*vars(import_module(f"twisted.internet.test.{_module}")).items(),):
        if getattr(_case, "reactorFactory", None) is GatewayReactor:
            _adjust(_module, _name, _case)
            globals()[f"{_module}_{_name}"] = _case
del _name, _case
globals().update(CASES.makeTestCaseClasses())
