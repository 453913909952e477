"""The vocabulary of refusals is unique, public and documented; the chain is what the docs say."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import gateway
from gateway.chain import STAGES, picture
from gateway.verdicts import Reason

ROOT = Path(__file__).parents[1]


def test_codes_are_unique() -> None:
    """Each reason has a code of its own."""
    assert len({reason.code for reason in Reason}) == len(list(Reason))


@pytest.mark.parametrize("reason", list(Reason))
def test_each_reason_is_documented(reason: Reason) -> None:
    """docs/errors.md explains every code with its status and sentence."""
    row = re.search(rf"^\| `{reason.code}` \| (\d+) \| (.*?) \|", (ROOT / "docs" / "errors.md").read_text(), re.M)
    assert row is not None
    assert (int(row[1]), row[2]) == (reason.status, reason.sentence)
    assert 400 <= reason.status <= 599
    assert len(reason.sentence) <= 80


def test_the_picture_is_the_chain() -> None:
    """docs/architecture.md shows the stages as chain.py nests them."""
    assert picture() in (ROOT / "docs" / "architecture.md").read_text()
    numbers = [stage.number for stage in STAGES]
    assert numbers == sorted(numbers)


def test_every_module_says_what_it_is_for() -> None:
    """Each module has a docstring, and each shell's says what it lets through and what it answers."""
    for found in pkgutil.walk_packages(gateway.__path__, "gateway."):
        module = importlib.import_module(found.name)
        assert module.__doc__, found.name
    for stage in STAGES:
        module = importlib.import_module(
            next(name for name, m in __import__("sys").modules.items() if name.startswith("gateway.") and name not in ("gateway.chain",) and stage.name in vars(m) and vars(m)[stage.name].__module__ == name)
        )
        assert "Lets" in (module.__doc__ or "")
