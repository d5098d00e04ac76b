"""What a page says to look at first, and how far it has spread: from the detections alone. Pure."""

from __future__ import annotations

from typing import Final

from responders.incident import Incident

CAUSES: Final[tuple[tuple[str, frozenset[str]], ...]] = (
    ("outside the agent", frozenset({"provider_outage", "shared_credential"})),
    ("coordination between agents", frozenset({"ping_pong", "spawn_storm", "orphaned_session"})),
    ("retrieval and memory", frozenset({"stale_memory", "foreign_memory"})),
    (
        "tool calls and their arguments",
        frozenset(
            {
                "tool_loop",
                "retry_storm",
                "undeclared_tool",
                "bad_arguments",
                "result_contract",
                "unconfirmed_effect",
                "credential_misuse",
                "unapproved_action",
                "fan_out",
                "foreign_arguments",
                "goal_violation",
            }
        ),
    ),
    ("token budget", frozenset({"budget", "spend_forecast", "context_growth", "truncation"})),
    ("model version", frozenset({"model_mismatch"})),
    ("prompt version", frozenset({"version_regression"})),
    ("telemetry", frozenset({"telemetry_gap", "engine_stalled"})),
)
"""Where a failure comes from, in the order in which to look, and what was seen of it there."""

_LOOK: Final = "coordination, retrieval, tool arguments, token budget, model version, prompt version"
_SEEN: Final[dict[str, str]] = {
    "cost_usd": "${:,.2f} in a session",
    "tokens": "{:,.0f} tokens in a session",
    "targets": "{:,.0f} targets in a session",
    "unapproved_calls": "{:,.0f} unapproved actions",
    "undeclared_calls": "{:,.0f} calls of undeclared tools",
    "foreign_calls": "{:,.0f} calls with foreign arguments",
    "foreign_retrievals": "{:,.0f} reads of another's memory",
}
"""Figures that say how far it went, by metric."""


def causes(incident: Incident) -> str:
    """Where to look, in order, with what was found there; without a finding, the whole order."""
    seen = list(dict.fromkeys(each.detector for each in incident.detections))
    if not seen:
        return ""
    found = [(name, [each for each in seen if each in detectors]) for name, detectors in CAUSES]
    told = [f"{name} (`{'`, `'.join(detectors)}`)" for name, detectors in found if detectors]
    if not told:
        return f"nothing points to one yet; look at {_LOOK}, in this order"
    return ", then ".join(told)


def blast(incident: Incident, detections: int | None = None) -> str:
    """How far it has spread: what was seen, of whom, and what it has done. Plain text."""
    count = len(incident.detections) if detections is None else max(detections, len(incident.detections))
    if not count:
        return ""
    told = [_several(count, "detection")]
    if len(incident.agents) > 1:
        told.append(_several(len(incident.agents), "agent"))
    sessions = {(each.agent, each.session) for each in incident.detections if each.session is not None}
    if len(sessions) > 1:
        told.append(_several(len(sessions), "session"))
    for metric, words in _SEEN.items():
        seen = [each.observed for each in incident.detections if each.metric == metric]
        if figures := [each for each in seen if each is not None]:
            told.append(words.format(max(figures)))
    after = [each.residual for each in incident.containments.values() if each.residual is not None]
    if after:
        told.append(f"{_several(sum(after), 'action')} after it was told to stop")
    return ", ".join(told)


def _several(count: int, name: str) -> str:
    return f"{count:,} {name}{'s' if count != 1 else ''}"
