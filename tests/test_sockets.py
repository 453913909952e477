"""Listening sockets: opened, inherited, activated, and what becomes of their paths."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest
from twisted.python.systemd import ListenFDs

from gateway.sockets import INHERITED, CannotListen, Sockets

NOBODY = ListenFDs([], ())


def connects(sock: socket.socket) -> bool:
    """Whether one can connect to a listening socket."""
    with socket.socket(sock.family) as client:
        client.connect(sock.getsockname())
    return True


@pytest.mark.parametrize(
    ("description", "family", "host"),
    [
        ("tcp:0", socket.AF_INET, "0.0.0.0"),
        ("tcp:port=0:interface=127.0.0.1:backlog=7", socket.AF_INET, "127.0.0.1"),
        (r"tcp:0:interface=\:\:1", socket.AF_INET6, "::1"),
    ],
)
def test_tcp(description: str, family: socket.AddressFamily, host: str) -> None:
    """Texts of listen become sockets that listen, as Twisted's endpoints understand them."""
    with Sockets().open(description) as sock:
        assert (sock.family, sock.getsockname()[0]) == (family, host)
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        assert connects(sock)


def test_unix(tmp_path: Path) -> None:
    """A UNIX socket has its mode; its path may hold an escaped colon, and goes at the end."""
    path = tmp_path / "a:b"
    sockets = Sockets()
    description = f"unix:{tmp_path}/a\\:b:mode=600"
    sock = sockets.open(description)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert connects(sock)
    sockets.close(description, sock)
    assert not path.exists()


def test_stale_unix_socket(tmp_path: Path) -> None:
    """A path left behind by a crash is taken; one on which somebody listens is not, nor is a file."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with Sockets().open(f"unix:{path}"), pytest.raises(CannotListen, match="Address already in use"):
        Sockets().open(f"unix:{path}")
    file = tmp_path / "f"
    file.write_text("precious")
    with pytest.raises(CannotListen, match="Address already in use"):
        Sockets().open(f"unix:{file}")
    assert file.read_text() == "precious"


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ("tcp:0:interface=192.0.2.1", "Cannot assign requested address"),
        ("unix:/nowhere/at/all", "No such file or directory"),
        ("systemd:domain=INET:index=0", "the service manager has handed over 0 sockets"),
    ],
)
def test_cannot_listen(description: str, says: str) -> None:
    """What can't be listened on is a sentence with the listener's text."""
    with pytest.raises(CannotListen, match=f"can't listen on .*{says}"):
        Sockets().open(description)


def test_handed_over(tmp_path: Path) -> None:
    """Once a successor has the sockets, a path is not removed by the old process."""
    path = tmp_path / "s"
    sockets = Sockets()
    sock = sockets.open(f"unix:{path}")
    sockets.handed_over()
    sockets.close(f"unix:{path}", sock)
    assert path.is_socket()


def test_inherited() -> None:
    """A successor listens on the sockets it was handed, by their texts, each once; the variable is gone."""
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        number = os.dup(theirs.fileno())
        environ = {INHERITED: json.dumps([["tcp:1:interface=127.0.0.1", number]]), "OTHER": "1"}
        sockets = Sockets.from_environment(environ, NOBODY)
        assert environ == {"OTHER": "1"}
        with sockets.open("tcp:1:interface=127.0.0.1") as sock:
            assert sock.getsockname() == theirs.getsockname()
            assert not sock.get_inheritable()
        with pytest.raises(CannotListen):
            sockets.open("tcp:1:interface=192.0.2.1")


def test_what_nobody_asked_for_is_closed() -> None:
    """A listener that is in the successor's file no more is closed."""
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        number = os.dup(theirs.fileno())
        sockets = Sockets.from_environment({INHERITED: json.dumps([["tcp:1", number]])}, NOBODY)
        sockets.forget()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


def test_activated() -> None:
    """The service manager's sockets are found by number and by name, also twice, and by domain."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        numbers = [os.dup(each.fileno()) for each in (one, two, two)]
        environ = {"LISTEN_FDNAMES": "a:b:b"}
        sockets = Sockets.from_environment(environ, ListenFDs(numbers, ("a", "b", "b")))
        assert environ == {}
        wanted = {"index=0": one, "name=b": two, "index=2": two, "name=a": one, "index=1": two}
        for which, expected in wanted.items():
            with sockets.open(f"systemd:domain=INET:{which}") as sock:
                assert sock.getsockname() == expected.getsockname()
        with pytest.raises(CannotListen, match="handed over 3 sockets, and not this one"):
            sockets.open("systemd:domain=INET:name=c")
        with pytest.raises(CannotListen, match="it is of the domain INET"):
            sockets.open("systemd:domain=UNIX:index=0")
        for _, sock in sockets._activated:
            sock.close()
