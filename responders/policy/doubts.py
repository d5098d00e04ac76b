"""What is wrong with a policy though it can be used: names that no detector has, and rules that never decide.

A running engine overlooks both; whoever writes the policy wants to know.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

from responders.pages.wording import HAPPENINGS
from responders.policy import Policy
from responders.policy.section import Match, Names

Keys = tuple[str, ...]


def known(name: str) -> str | None:
    """What is wrong with a detector's name; None when there is one of that name.

    >>> known("tool_loop"), known("tool_lop")
    (None, "there is no detector 'tool_lop': did you mean 'tool_loop'?")
    """
    if name in HAPPENINGS:
        return None
    meant = difflib.get_close_matches(name, HAPPENINGS, n=1)
    return f"there is no detector {name!r}: " + (
        f"did you mean {meant[0]!r}?" if meant else "watchkeeper runbook lists them"
    )


def no_detectors(policy: Policy) -> list[tuple[Keys, str]]:
    """The keys where a detector is named that there is not, and what to write."""
    named: list[tuple[Keys, Names | None]] = [
        ((*keys, str(number), "detectors"), rule.detectors)
        for keys, rules in _matching(policy)
        for number, rule in enumerate(rules)
    ]
    for number, rule in enumerate(policy.inhibit):
        named += [(("inhibit", str(number), "source"), rule.source)]
        named += [(("inhibit", str(number), "targets"), rule.targets)]
    return [
        (keys, wrong)
        for keys, names in named
        for name in sorted(names or ())
        if (wrong := known(name)) is not None
    ]


def never_decide(policy: Policy) -> list[str]:
    """The rules that an earlier one leaves nothing for, where the first that fits decides."""
    routes = [each if each.hours is None and not each.also else None for each in policy.route]
    lists: list[tuple[str, Sequence[Match], Sequence[Match | None]]] = [
        ("route", policy.route, routes),
        ("severity", policy.severity, policy.severity),
        ("grouping.rules", policy.grouping.rules, policy.grouping.rules),
        (
            "containment.rules",
            policy.containment.rules,
            [
                each if each.modes is None and each.scope is None else None
                for each in policy.containment.rules
            ],
        ),
    ]
    return [
        f"[[{name}]] number {later + 1} never decides: number {first + 1} fits all that it fits"
        for name, rules, final in lists
        for later, first in _shadowed(rules, final)
    ]


def _matching(policy: Policy) -> Iterator[tuple[Keys, Sequence[Match]]]:
    yield ("route",), policy.route
    yield ("severity",), policy.severity
    yield ("silence",), policy.silence
    yield ("grouping", "rules"), policy.grouping.rules
    yield ("containment", "rules"), policy.containment.rules


def _shadowed(rules: Sequence[Match], final: Sequence[Match | None]) -> Iterable[tuple[int, int]]:
    """Each rule that comes after one (of ``final``) that fits all that it fits, and that one."""
    for later, rule in enumerate(rules):
        for first, earlier in enumerate(final[:later]):
            if earlier is not None and _fits_all_of(earlier, rule):
                yield later, first
                break


def _fits_all_of(wide: Match, narrow: Match) -> bool:
    return all(
        ours is None or (theirs is not None and theirs <= ours)
        for ours, theirs in (
            (wide.detectors, narrow.detectors),
            (wide.severities, narrow.severities),
            (wide.suggests, narrow.suggests),
            (wide.agents, narrow.agents),
            (wide.tenants, narrow.tenants),
        )
    )
