"""What may follow what: the states of an incident and of what it contains, in two tables.

Everything that changes state is here, in `LIFECYCLE` and `CONTAINMENT`; what is not in a table is illegal,
raises `IllegalTransition` and changes nothing. The diagram in the docs is drawn from the tables (`diagram`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

State = Literal["triggered", "acknowledged", "mitigated", "resolved"]
ContainmentState = Literal["none", "requested", "applied", "verified", "disobeyed", "released"]

# Facts that may arrive at any time once the incident is open, and do not move it.
_ANY_TIME: Final = (
    "page_requested",
    "page_delivered",
    "page_deferred",
    "page_late",
    "page_failed",
    "containment_proposed",
    "containment_issued",
    "containment_delivered",
    "containment_undeliverable",
    "containment_applied",
    "containment_refused",
    "containment_unconfirmed",
    "containment_verified",
    "containment_residual",
    "containment_released",
    "note",
)
_WHILE_OPEN: Final = (
    *_ANY_TIME,
    "detection_joined",
    "kin_linked",
    "incident_absorbed",
    "incident_listed",
    "part_failed",
    "silenced",
    "silence_ended",
    "escalated",
    "containment_denied",
    "containment_unanswered",
)
_CLOSED: Final[dict[str, State]] = {"resolved": "resolved", "false_alarm": "resolved", "merged": "resolved"}


def _stay(state: State, facts: Iterable[str]) -> dict[str, State]:
    return dict.fromkeys(facts, state)


LIFECYCLE: Final[Mapping[State | None, Mapping[str, State]]] = {
    None: {"triggered": "triggered"},
    "triggered": {
        **_stay("triggered", _WHILE_OPEN),
        **_stay("triggered", ("severity_raised", "containment_requested", "containment_disobeyed")),
        "acknowledged": "acknowledged",
        "mitigated": "mitigated",
        **_CLOSED,
    },
    "acknowledged": {
        **_stay("acknowledged", _WHILE_OPEN),
        **_stay("acknowledged", ("severity_raised", "containment_requested", "containment_disobeyed")),
        "mitigated": "mitigated",
        **_CLOSED,
    },
    "mitigated": {
        **_stay("mitigated", _WHILE_OPEN),
        "acknowledged": "mitigated",
        # Worse than thought: it needs a person again.
        "severity_raised": "triggered",
        "containment_requested": "triggered",
        "containment_disobeyed": "triggered",
        **_CLOSED,
    },
    # Closed for good: the next detection opens a new incident. What was under way still reports back.
    "resolved": _stay("resolved", _ANY_TIME),
}
"""State, then the type of the fact, to the next state."""


def _asked(state: ContainmentState) -> dict[str, ContainmentState]:
    """More can be proposed at any time, and be refused; that moves nothing."""
    return dict.fromkeys(("containment_proposed", "containment_denied", "containment_unanswered"), state)


CONTAINMENT: Final[Mapping[ContainmentState, Mapping[str, ContainmentState]]] = {
    "none": {
        **_asked("none"),
        "containment_requested": "requested",
    },
    "requested": {
        "containment_requested": "requested",
        **_asked("requested"),
        "containment_issued": "requested",
        "containment_delivered": "requested",
        "containment_undeliverable": "requested",
        "containment_refused": "requested",
        "containment_unconfirmed": "requested",
        "containment_applied": "applied",
        "containment_disobeyed": "disobeyed",
        "containment_released": "released",
    },
    "applied": {
        "containment_requested": "requested",
        **_asked("applied"),
        "containment_delivered": "applied",
        "containment_applied": "applied",
        "containment_refused": "applied",
        "containment_verified": "verified",
        "containment_disobeyed": "disobeyed",
        "containment_released": "released",
    },
    "verified": {
        "containment_requested": "requested",
        **_asked("verified"),
        "containment_delivered": "verified",
        "containment_applied": "verified",
        "containment_refused": "verified",
        "containment_disobeyed": "disobeyed",
        "containment_released": "released",
    },
    "disobeyed": {
        "containment_requested": "requested",
        **_asked("disobeyed"),
        "containment_delivered": "disobeyed",
        "containment_undeliverable": "disobeyed",
        "containment_applied": "disobeyed",
        "containment_refused": "disobeyed",
        "containment_residual": "disobeyed",
        "containment_released": "released",
    },
    "released": {
        **_asked("released"),
        "containment_requested": "requested",
        "containment_delivered": "released",
    },
}
"""The same for each target an incident contains. Issued and delivered are steps of requested."""


class IllegalTransition(Exception):  # noqa: N818 - a statement about the log, in the words of the table
    """The fact may not follow in this state. Nothing has changed."""


def diagram() -> str:
    """Both tables as Mermaid state diagrams in Markdown, without the facts that do not move them."""
    return "\n".join(
        [
            "### Lifecycle of an incident",
            "",
            *_mermaid(LIFECYCLE),
            "",
            "### Containment of a target",
            "",
            *_mermaid(CONTAINMENT),
            "",
        ]
    )


def _mermaid(
    table: Mapping[State | None, Mapping[str, State]]
    | Mapping[ContainmentState, Mapping[str, ContainmentState]],
) -> list[str]:
    lines = ["```mermaid", "stateDiagram-v2"]
    for before, follow in table.items():
        moves: dict[str, list[str]] = {}
        for fact, after in follow.items():
            if after != before:
                moves.setdefault(after, []).append(fact)
        lines += [f"    {before or '[*]'} --> {after}: {', '.join(facts)}" for after, facts in moves.items()]
    return [*lines, "```"]
