"""The manual file and the settings page are what the declarations say, and the file starts the gateway."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.settings import parse
from gateway.settings.manual import ini, markdown
from gateway.settings.route import ROUTE_OPTIONS
from gateway.settings.sections import SECTIONS

ROOT = Path(__file__).parents[2]


def test_committed_files_are_current() -> None:
    """Run `python -m gateway.settings.manual` when this fails."""
    assert (ROOT / "etc" / "gateway.ini").read_text() == ini()
    assert (ROOT / "docs" / "settings.md").read_text() == markdown()


def test_the_manual_starts_the_gateway(tmp_path: Path) -> None:
    """etc/gateway.ini is a good file as it stands, and says the defaults."""
    environ = {"JWT_SECRET": "x" * 32, "STATE_DIRECTORY": str(tmp_path)}
    manual = parse(ini(), environ)
    bare = parse("[jwt]\nsecret = ${JWT_SECRET}\n[route /a]\nupstream = http://a", environ)
    assert (manual.gateway, manual.ratelimit, manual.cors, manual.upstream) == (bare.gateway, bare.ratelimit, bare.cors, bare.upstream)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_option_is_explained(section: str) -> None:
    """Each option has a comment with its default and a line to take over."""
    text = ini().split(f"\n[{section}]\n")[1].split("\n# -----")[0]
    for option in SECTIONS[section][1]:
        assert re.search(rf"# (.* )?Default: .*(\n# .*)*\n#?{re.escape(option.name)} = \S", text), option.name
        assert len(option.says) > 3


def test_examples_are_good_values() -> None:
    """Every example in the manual is a value its option takes."""
    for options in (*(options for _, options in SECTIONS.values()), ROUTE_OPTIONS):
        for option in options:
            option.type.parse(option.example or option.default)
            option.type.parse(option.default)
