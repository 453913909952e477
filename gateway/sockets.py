# -*- test-case-name: tests.test_sockets -*-
"""
Listening sockets from the texts of C{listen}: opens them, or takes them over from the
service manager, from the supervisor, or from the gateway that ran before.

Refuses, with a sentence, what can't be listened on. Only one who has a socket's path in
its own hands removes the path again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import stat
from collections.abc import Iterable, MutableMapping
from pathlib import Path

from twisted.internet import endpoints
from twisted.python.systemd import ListenFDs

#: Connections that wait in the kernel; a smaller queue drops a burst.
BACKLOG = 4096

#: The variable in which a gateway tells its successor which descriptors are what: JSON,
#: a list of [description, number].
INHERITED = "GATEWAY_SOCKETS"

_PART = re.compile(r"(?:\\.|[^:\\])+")


class CannotListen(Exception):
    """Says on what, and why not."""


class Sockets:
    """
    What this process may listen on, and the sockets that were handed to it.

    @param given: sockets by description, from a predecessor or a supervisor.
    @param activated: the service manager's sockets with their names.
    @param owner: whether paths of UNIX sockets are this process's to remove.
    """

    def __init__(
        self,
        given: Iterable[tuple[str, socket.socket]] = (),
        activated: Iterable[tuple[str, socket.socket]] = (),
        owner: bool = True,
    ) -> None:
        self._given = list(given)
        self._activated = list(activated)
        self._owner = owner

    @classmethod
    def from_environment(
        cls, environ: MutableMapping[str, str], manager: ListenFDs | None = None
    ) -> Sockets:
        """
        Those of a gateway that hands over, whose variable goes, so that no child takes them
        for its own, and those of the service manager.

        @param manager: by default what Twisted has found, which takes sd_listen_fds(3) from
            the environment as it is imported.
        """
        given = [
            (str(name), _socket(int(number)))
            for name, number in json.loads(environ.pop(INHERITED, "[]"))
        ]
        manager = manager or endpoints._SystemdParser._sddaemon
        environ.pop("LISTEN_FDNAMES", None)
        activated = [
            (name, _socket(number))
            # Several sockets of one unit have one name, so its dictionary by name won't do.
            for name, number in zip(manager._names, manager._descriptors, strict=True)
        ]
        return cls(given, activated)

    def give(self, given: Iterable[tuple[str, socket.socket]]) -> None:
        """Some more were handed to this process."""
        self._given += given

    def open(self, description: str) -> socket.socket:
        """
        The listening socket, which is the caller's from now on.

        @raise CannotListen: see there.
        """
        for at, (name, sock) in enumerate(self._given):
            if name == description:
                del self._given[at]
                return sock
        kind, _, rest = description.partition(":")
        try:
            if kind == "systemd":
                return self._from_manager(_options(rest, ()))
            if kind == "unix":
                return _unix(_options(rest, ("address",)))
            return _tcp(_options(rest, ("port",)))
        except (OSError, ValueError) as error:
            says = getattr(error, "strerror", None) or str(error)
            raise CannotListen(f"can't listen on {description}: {says}") from None

    def close(self, description: str, sock: socket.socket) -> None:
        """Listen no more; the path of a UNIX socket goes, if it is still this one's."""
        path = _path(sock) if description.startswith("unix:") and self._owner else ""
        sock.close()
        if path:
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.stat(path).st_mode):
                    os.unlink(path)

    def handed_over(self) -> None:
        """Another process has all sockets now: paths are its own."""
        self._owner = False

    def forget(self) -> None:
        """Close what a predecessor or the supervisor has handed over and nobody has asked for."""
        given, self._given = self._given, []
        for _, sock in given:
            sock.close()

    def _from_manager(self, options: dict[str, str]) -> socket.socket:
        family = getattr(socket, f"AF_{options.get('domain', 'INET')}")
        if "name" in options:
            found = [sock for name, sock in self._activated if name == options["name"]]
        else:
            index = int(options.get("index", "0"))
            found = [sock for _, sock in self._activated[index : index + 1]]
        if not found:
            raise ValueError(
                f"the service manager has handed over {len(self._activated)} sockets, "
                "and not this one (is gateway.socket enabled?)"
            )
        if found[0].family != family:
            raise ValueError(f"it is of the domain {found[0].family.name.removeprefix('AF_')}")
        # It may be listened on again after a reload, so this process keeps its own.
        return found[0].dup()


def _options(text: str, positional: tuple[str, ...]) -> dict[str, str]:
    """C{8080:interface=127.0.0.1} as a dictionary; C{\\:} is a colon."""
    options = {}
    for at, part in enumerate(_PART.findall(text)):
        name, separator, value = part.partition("=")
        if not separator:
            name, value = (positional[at] if at < len(positional) else ""), part
        options[name] = re.sub(r"\\(.)", r"\1", value)
    return options


def _tcp(options: dict[str, str]) -> socket.socket:
    host = options.get("interface", "")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.getaddrinfo(
        host or "0.0.0.0", int(options["port"]), family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE  # noqa: S104
    )[0][4]  # fmt: skip
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        return _listen(sock, options)
    except BaseException:
        sock.close()
        raise


def _unix(options: dict[str, str]) -> socket.socket:
    path = options["address"]
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        Path(path).chmod(int(options.get("mode", "666"), 8))
        return _listen(sock, options)
    except BaseException:
        sock.close()
        raise


def _remove_stale(path: str) -> None:
    """A socket on which nobody listens any more was left behind by a crash."""
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            try:
                probe.settimeout(1.0)
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)


def _listen(sock: socket.socket, options: dict[str, str]) -> socket.socket:
    sock.setblocking(False)
    sock.listen(int(options.get("backlog", BACKLOG)))
    return sock


def _socket(number: int) -> socket.socket:
    """A descriptor that was handed to this process; no child of ours gets it by accident."""
    sock = socket.socket(fileno=number)
    sock.setblocking(False)
    os.set_inheritable(number, False)
    return sock


def _path(sock: socket.socket) -> str:
    name = sock.getsockname()
    return name if isinstance(name, str) else ""
