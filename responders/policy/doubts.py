"""What is doubtful in a policy though it can be used: rules that never decide.

A running engine overlooks them; whoever writes the policy wants to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from responders.policy import Policy
from responders.policy.section import Match


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
