"""What a detection means in a person's words: the headline of a page."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from schemas.control import EVERY_AGENT
from schemas.detection import Detection, Severity

HAPPENINGS: Final[dict[str, str]] = {
    "tool_loop": "repeats the same call",
    "ping_pong": "goes back and forth with another agent",
    "retry_storm": "retries a failing call without end",
    "budget": "is over its budget",
    "spend_forecast": "is about to overspend",
    "context_growth": "grows its context without bound",
    "truncation": "is cut off by its token limit",
    "undeclared_tool": "called a tool it does not have",
    "bad_arguments": "called a tool with arguments it does not take",
    "result_contract": "gets results of the wrong shape",
    "unconfirmed_effect": "reports work that did not happen",
    "credential_misuse": "used a credential that is not its own",
    "goal_violation": "does what its goal does not allow",
    "unapproved_action": "acted without approval",
    "fan_out": "reaches too many targets",
    "foreign_arguments": "is steered by what a tool returned",
    "foreign_memory": "read another user's memory",
    "stale_memory": "works from stale memory",
    "orphaned_session": "left a session unfinished",
    "model_mismatch": "is answered by another model",
    "spawn_storm": "spawns agents without end",
    "disobeyed_control": "goes on although it was told to stop",
    "refusal_rate": "refuses more than it used to",
    "escalation_rate": "escalates more than it used to",
    "clarification_rate": "asks back more or less than it used to",
    "completion_rate": "completes less than it used to",
    "error_rate": "fails more than it used to",
    "latency": "is slower than it used to be",
    "cost_per_session": "costs more than it used to",
    "output_length": "writes differently from what it used to",
    "embedding_drift": "answers differently from what it used to",
    "judge_score": "answers worse than it used to",
    "canary": "fails its canary",
    "confidence_calibration": "is sure of the wrong things",
    "activity_collapse": "has all but stopped working",
    "version_regression": "got worse with a new version",
    "slice_regression": "fails for part of its users",
    "session_outlier": "has sessions unlike any before",
    "health_score": "is unwell on several counts",
    "slo_burn": "burns its error budget",
    "provider_outage": "is hit by a provider outage",
    "shared_credential": "shares a credential with another agent",
    "telemetry_gap": "loses telemetry on the way here",
    "engine_stalled": "is not being watched: the engine has stalled",
}
"""What the agent does, to follow its name, by detector."""

CHANNEL: Final = "channel "
TOPIC: Final = "topic "
"""What the name of a part of the engine begins with."""

LATE: Final = "late"
"""The cause of a channel that neither takes a page nor refuses it."""

SIGNS: Final[dict[Severity, str]] = {"critical": "🔴", "warning": "🟠", "info": "🔵"}


def headline(detection: Detection) -> str:
    """Who and what, in one line: ``billing repeats the same call``."""
    what = HAPPENINGS.get(detection.detector, f"triggered {detection.detector.replace('_', ' ')}")
    return f"{'Every agent' if detection.agent == EVERY_AGENT else detection.agent} {what}"


def part_fails(part: str, cause: str, reason: str, pages: int, told: str | None) -> str:
    """What a failing part of the engine means for people, and what to try.

    >>> part_fails("channel slack:#ops", "invalid_auth", "invalid_auth", 3, "terminal")[:68]
    'slack:#ops refuses pages: invalid_auth. 3 pages went to terminal. Tr'
    """
    if not part.startswith(CHANNEL):
        name = part.removeprefix(TOPIC)
        return (
            f"{name} cannot be read: {reason}. Orders to stop may reach nobody, and gates follow their fail"
            " mode. See the broker: watchkeeper doctor."
        )
    name = part.removeprefix(CHANNEL)
    does = "does not take pages" if cause == LATE else "refuses pages"
    where = (
        "" if not pages else f" {pages:,} page{'s' if pages != 1 else ''} went to {told or 'nobody else'}."
    )
    return f"{name} {does}: {reason}.{where} Try it: watchkeeper channels test {name}"


def residual(actions: int, named: Mapping[str, int]) -> str:
    """What an agent did after it was told to stop.

    >>> residual(13, {"delete_mail": 12, "llm.call": 1})
    '13 more calls after the stop (12 delete_mail, 1 llm.call)'
    """
    often = sorted(named.items(), key=lambda each: (-each[1], each[0]))
    which = ", ".join(f"{number:,} {name}" for name, number in often[:4])
    calls = f"{actions:,} more call{'s' if actions != 1 else ''} after the stop"
    return f"{calls} ({which})" if which else calls


def escape(text: str) -> str:
    """``text`` as mrkdwn shows it literally: it cannot link, mention or call a channel.

    >>> escape("<!channel> & co")
    '&lt;!channel&gt; &amp; co'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` characters, where one beyond the basic plane may count as two.

    >>> cut("a fox: 🦊🦊", 10), cut("a fox: 🦊🦊", 11)
    ('a fox: 🦊…', 'a fox: 🦊🦊')
    """
    encoded = text.encode("utf-16-le")
    if len(encoded) <= 2 * limit:
        return text
    return encoded[: 2 * (limit - 1)].decode("utf-16-le", "ignore") + "…"


def span(seconds: float) -> str:
    """How long in the largest unit that still says something.

    >>> span(0.41), span(12), span(300), span(10_800)
    ('0.4 s', '12 s', '5 min', '3 h')
    """
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def ago(moment: datetime | None, now: datetime) -> str:
    """How long that is ago; ``some time`` when it is not known."""
    return "some time" if moment is None else span((now - moment).total_seconds())


def one_line(text: str) -> str:
    """``text`` without what could begin a line of its own, steer a terminal or turn the reading direction.

    >>> one_line("billing\\n*Resolved*\\u202e")
    'billing *Resolved*'
    """
    kept = (" " if unicodedata.category(each) in ("Cc", "Zl", "Zp") else each for each in text)
    return "".join(each for each in kept if each not in _DIRECTIONS).strip()


_DIRECTIONS: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def literal(text: str) -> str:
    """One line that mrkdwn shows as it is: for a name or a sentence from outside."""
    return escape(one_line(text))


def resumed(asked: str, released: Sequence[str], still_held_by: Sequence[str]) -> str:
    """What came of letting ``asked`` run again; all are keys of targets.

    >>> resumed("a/b", ["a/b", "a/b/s"], [])
    'a/b, a/b/s may run again'
    >>> resumed("a/b", [], ["a/*"])
    "nothing held a/b itself, but a/* is still held, and it with that: watchkeeper resume 'a/*'"
    """
    if released:
        said = f"{', '.join(released)} {'is let go' if still_held_by else 'may run again'}"
    else:
        said = f"nothing held {asked}{' itself' if still_held_by else ''}"
    if still_held_by:
        what = " and ".join(still_held_by)
        order = " and ".join(f"watchkeeper resume {shlex.quote(each)}" for each in still_held_by)
        return f"{said}, but {what} is still held, and it with that: {order}"
    return said if released else f"{said}; it is told once more that it may run"


def name_of(agent: str) -> str:
    return "every agent" if agent == EVERY_AGENT else agent
