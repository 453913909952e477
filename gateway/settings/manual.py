# -*- test-case-name: tests.settings.test_manual -*-
"""
Makes etc/gateway.ini (the manual of every option) and docs/settings.md from the
declarations: C{python -m gateway.settings.manual} in a checkout rewrites both.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from gateway.settings.issuers import ISSUER_OPTIONS
from gateway.settings.limits import PLAN_OPTIONS
from gateway.settings.option import Option
from gateway.settings.require import CLAIM
from gateway.settings.route import ROUTE_OPTIONS
from gateway.settings.sections import OVERRIDABLE, SECTIONS

_HEAD = """\
# The gateway's configuration, and the manual of every option.
#
# A line "option = value" that stands behind a comment sign shows an example; its default
# is told above it. Times: 250ms, 10s, 5m, 2h, 30d. Sizes: 8KiB, 10MiB. Lists: commas, blanks
# or lines (indented). A comment begins a line, or follows a blank and ";". ${NAME} is the
# environment's variable; one that is not set is an error.
#
# Check it:  gateway check FILE
# Run it:    twistd -n gateway --config FILE
"""

_ISSUERS = """\
# ---------------------------------------------------------------------------------------
# Issuers: identity providers whose tokens are good, one section each, chosen by iss. With one
# of them, or [introspection], [jwt] needs no key. What a section does not say of its tokens
# (audience, leeway, require_exp, role_claim, default_role) holds as in [jwt]; what a route
# says as jwt.audience and so on holds for all its tokens, whoever made them.
#[issuer corp]"""

_PLANS = """\
# ---------------------------------------------------------------------------------------
# Plans: the limit of those whose token names one, in the claim that [ratelimit] plan_claim
# says. One section each, with {options}; what it does not
# say holds as in [ratelimit]. Each plan has counters of its own.
#[plan gold]
#limits = 50/1s, 1000/60s
"""

_ROUTES = """\
# ---------------------------------------------------------------------------------------
# Routes: one section each. The prefix matches whole segments; the longest wins; it is taken
# off before forwarding. Any option of {sections} may be overridden for
# one route as section.option, less those marked "for all". A route with any ratelimit option
# but a cost has a counter of its own, which no plan changes.
[route /api/v1/users]
upstream = http://127.0.0.1:9001
"""

RESTART = " A reload does not change it; a restart does."

_CLAIMS = (
    "claim.FIELD = CLAIM sends a claim (a dot reaches into objects) to the services. Text in "
    "visible ASCII travels as it is; all else, and comma and percent, percent-encoded (UTF-8); a list "
    "has commas between its items, each encoded; an object is compact JSON, encoded. A claim that is "
    "missing or null has no field. A client's own field of that name is dropped on every route, in "
    "every spelling."
)

#: Live in the file, for nothing starts without them.
_NEEDED = {("gateway", "listen"): "tcp:8080", ("jwt", "secret"): "${JWT_SECRET}"}


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, 86):
        yield f"# {line}"


def _option(section: str, option: Option) -> Iterator[str]:
    yield ""
    yield from _comment(option.says + (RESTART if option.restart else ""))
    bounds = option.type.expected
    expected = "" if bounds in ("text", "networks") else f" Expected: {bounds}."
    for_all = " For all; no route overrides it." if section in OVERRIDABLE and not option.per_route else ""
    default = option.default or "none"
    told = "" if "Default:" in option.says else f"Default: {default}."
    if told or expected or for_all:
        yield from _comment(f"{told}{expected}{for_all}".strip())
    if option.danger:
        yield from _comment(f"~~~ DANGER ~~~ {option.danger}")
    needed = _NEEDED.get((section, option.name))
    if needed is not None:
        yield f"{option.name} = {needed}"
    else:
        yield f"#{option.name} = {option.example or option.default}"


def ini() -> str:
    """etc/gateway.ini."""
    lines = [_HEAD]
    for name, (says, options) in SECTIONS.items():
        lines += ["# " + "-" * 87, f"# {says}", f"[{name}]"]
        for option in options:
            lines += _option(name, option)
        if name == "headers":
            lines += ["", *_comment(_CLAIMS), "#claim.X-Department = department"]
        lines.append("")
    lines.append(_ISSUERS.rstrip())
    for option in ISSUER_OPTIONS:
        lines += _option("issuer", option)
    lines.append("")
    lines.append(_PLANS.format(options=", ".join(PLAN_OPTIONS)))
    lines.append(_ROUTES.format(sections=", ".join(f"[{name}]" for name in OVERRIDABLE)).rstrip())
    for option in ROUTE_OPTIONS[1:]:
        lines += _option("route", option)
    lines += ["", *_comment("A claim that must be, or be a list that holds, one of these (403 else); "
                            "require.claim.NAME.METHOD where a method asks for more. What is asked of "
                            "a method holds beside what is asked of all, GET's of HEAD too. Default: none."),
              f"#{CLAIM}department = finance, audit", f"#{CLAIM}department.DELETE = audit",
              "#require.scope.POST = orders:write", "",
              *_comment("A claim that the service gets as a header field; see [headers]. Empty: not here."),
              "#headers.claim.X-Department = department", "",
              *_comment("How many requests one of a method counts as; see cost in [ratelimit]."),
              "#ratelimit.cost.POST = 5", "",
              "#[route /api/v1/orders]", "#upstream = https://orders.internal", "#ratelimit.limit = 20"]  # fmt: skip
    return "\n".join(lines) + "\n"


def markdown() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made from the declarations in `gateway/settings/`, as `etc/gateway.ini` is, which says more.",
        "A route may override the options marked *route* as `section.option`.",
    ]
    for name, (says, options) in SECTIONS.items():
        lines += ["", f"## [{name}]", "", says, "", "| option | default | route | what for |", "|---|---|---|---|"]
        lines += [_row(option, name in OVERRIDABLE and option.per_route) for option in options]
        if name == "headers":
            lines.append(f"| `claim.FIELD` | | route | {_CLAIMS} |")
    lines += ["", "## [issuer NAME]", "",
              "Identity providers whose tokens are good, chosen by `iss`. With one of them, or "
              "[introspection], [jwt] needs no key. A route's `jwt.audience`, `jwt.leeway`, "
              "`jwt.require_exp`, `jwt.role_claim` and `jwt.default_role` hold for all its tokens, "
              "whoever made them.", "", "| option | default | what for |", "|---|---|---|"]  # fmt: skip
    for option in ISSUER_OPTIONS:
        default = "as in [jwt]" if "as in [jwt]" in option.says else f"`{option.default}`" if option.default else ""
        lines.append(f"| `{option.name}` | {default} | {option.says} |")
    lines += ["", "## [plan NAME]", "",
              "The limit of those whose token names the plan, in the claim that `[ratelimit] plan_claim` "
              "says: any of " + ", ".join(f"`{name}`" for name in PLAN_OPTIONS) + ". What it does not say "
              "holds as in [ratelimit]. Each plan has counters of its own; a route with a limit of its own "
              "keeps that whatever the plan."]  # fmt: skip
    lines += ["", "## [route /prefix]", "", "Where requests go, and who may send them.", "",
              "| option | default | what for |", "|---|---|---|"]  # fmt: skip
    for option in ROUTE_OPTIONS:
        default = "needed" if option.name == "upstream" else f"`{option.default}`" if option.default else ""
        danger = f" **{option.danger}**" if option.danger else ""
        lines.append(f"| `{option.name}` | {default} | {option.says}{danger} |")
    lines.append("| `ratelimit.cost.METHOD` | | How many requests one of that method counts as. |")
    lines.append(f"| `{CLAIM}NAME` | | A claim that must be, or hold, one of these (403 else). |")
    lines.append("| `require.role.METHOD`, `require.scope.METHOD`, `require.claim.NAME.METHOD` | | What a "
                 "method asks for besides what all do; GET's holds for HEAD too. |")
    return "\n".join(lines) + "\n"


def _row(option: Option, per_route: bool) -> str:
    default = f"`{option.default}`" if option.default else ""
    danger = f" **{option.danger}**" if option.danger else ""
    route = "route" if per_route else ""
    restart = RESTART if option.restart else ""
    return f"| `{option.name}` | {default} | {route} | {option.says}{restart}{danger} |"


def main() -> None:
    """Rewrite both files."""
    root = Path(__file__).parents[2]
    (root / "etc" / "gateway.ini").write_text(ini(), encoding="utf-8")
    (root / "docs" / "settings.md").write_text(markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
