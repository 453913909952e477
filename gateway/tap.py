# -*- test-case-name: tests.test_tap -*-
"""
C{twistd gateway}: lets a configuration without a problem become a running service;
prints every problem of any other, with its file and line, and exits with status 1.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from gateway.libraries import outdated


class Options(usage.Options):
    """Command line options of C{twistd gateway}."""

    synopsis = "twistd -n gateway --config FILE | --demo"
    longdesc = "A zero-trust API gateway: identifies, limits, routes, forwards, remembers."
    optParameters = [
        ["config", "c", None, "The INI file (etc/gateway.ini is the manual of its options)."],
    ]
    optFlags = [
        ["check", None, "Check the INI file, say what is wrong with it, start nothing."],
        ["demo", None, "Run with no file: a demo upstream, a token, ready curl lines."],
    ]

    def postOptions(self) -> None:
        """Read the configuration; nothing starts unless it is right."""
        from gateway.settings import SettingsError  # noqa: PLC0415
        from gateway.workers.places import start_directory  # noqa: PLC0415
        from gateway.workers.snapshot import Snapshot  # noqa: PLC0415

        if problems := outdated():
            print(*(f"gateway: {problem}" for problem in problems), sep="\n", file=sys.stderr)  # noqa: T201
            raise SystemExit(1)
        if self["demo"]:
            choose_reactor()
            return
        if self["config"] is None:
            raise usage.UsageError("say --config FILE, or --demo to look around")
        try:
            self.settings, self.snapshot = Snapshot.take(self["config"], os.environ)
        except SettingsError as error:
            print(error, file=sys.stderr)  # noqa: T201
            raise SystemExit(1) from None
        if self["check"]:
            for warning in self.settings.warnings:
                print(f"warning: {warning}")  # noqa: T201
            print(f"{self['config']}: {len(self.settings.routes)} routes, no problem found")  # noqa: T201
            raise SystemExit(0)
        self.directory = start_directory()
        choose_reactor()


def choose_reactor() -> None:
    """
    Install this gateway's reactor if nobody has chosen another (C{twistd --reactor}) and
    uvloop is there; otherwise Twisted's default serves.
    """
    if "twisted.internet.reactor" in sys.modules:
        return
    try:
        import uvloop  # noqa: F401, PLC0415
    except ImportError:
        return
    from gateway.reactor import install  # noqa: PLC0415

    install()


def makeService(options: Options) -> IService:
    """The service; called by twistd when the options are good."""
    from twisted.internet import reactor as installed  # noqa: PLC0415, TID251

    reactor: Any = installed
    if options["demo"]:
        from gateway.demo import DemoService  # noqa: PLC0415

        return DemoService(reactor)
    return _service(options, reactor)


def _service(options: Options, reactor: Any) -> IService:
    """One process that serves, or a supervisor of several; either hands over on SIGUSR2."""
    from gateway.service import GatewayService  # noqa: PLC0415
    from gateway.settings import read  # noqa: PLC0415
    from gateway.sockets import Sockets  # noqa: PLC0415
    from gateway.workers.snapshot import Snapshot  # noqa: PLC0415
    from gateway.workers.supervisor import Supervisor  # noqa: PLC0415
    from gateway.workers.takeover import TakeOver, announcement  # noqa: PLC0415

    # The daemon may have another working directory by the time it is asked to reload.
    path = os.path.abspath(options["config"])
    settings, snapshot, twistd = options.settings, options.snapshot, options.parent
    assert twistd is not None
    sockets = Sockets.from_environment(os.environ)
    serves = announcement(os.environ)
    service: GatewayService | Supervisor
    if settings.gateway.workers == 1:
        snapshot.close()
        service = GatewayService(settings, reactor, lambda: read(path, os.environ), sockets)
    else:
        service = Supervisor(
            settings, snapshot, reactor, lambda: Snapshot.take(path, os.environ), sockets,
            options.directory, twistd.get("reactor", ""),
        )  # fmt: skip
    service.when_ready.append(serves)
    service.when_ready.append(sockets.forget)
    takeover = TakeOver(reactor, service, twistd, options.directory)
    reactor.callWhenRunning(takeover.arm)
    return service
