"""Which buttons an incident shows now, and what a press on one was about. Pure.

The value of a button says which incident, whom, and what stood there when it was shown: a press counts only
while the incident shows the very same button. So a value need be neither secret nor trusted, and whatever
makes a button stale also changes the message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from slack_sdk.models.blocks import ActionsBlock, ButtonElement, ConfirmObject, PlainTextObject

from responders.containment import covers, describe, scope_of
from responders.incident import Containment, Incident
from responders.pages import wording
from responders.pages.wording import cut
from schemas.control import EVERY_AGENT, Target

Pressed = Literal["acknowledge", "halt", "approve", "deny", "resume", "resolve", "false_alarm"]
"""What a button does, in the words of the policy's roles."""

MOST_RESUMES: Final = 3
"""Those beyond are let run by command."""
_PREFIX: Final = "watchkeeper."
_LABEL_CHARS: Final = 40
_TITLE_CHARS: Final = 100
_TEXT_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Question:
    """What Slack asks before the press counts."""

    title: str
    text: str
    yes: str


@dataclass(frozen=True, slots=True)
class Button:
    """``about`` is what stood there when it was shown; ``target`` whom it is for, when that is one."""

    deed: Pressed
    label: str
    incident_id: str
    about: str = ""
    target: Target | None = None
    style: Literal["primary", "danger"] | None = None
    question: Question | None = None

    @property
    def value(self) -> str:
        scope = "" if self.target is None else _short(scope_of(self.target))
        return f"{self.incident_id}:{scope}:{self.about}"


@dataclass(frozen=True, slots=True)
class Value:
    """A button's value, taken apart. Nothing in it is known to be true."""

    incident_id: str
    scope: str
    about: str


def shown(incident: Incident) -> tuple[tuple[Button, ...], tuple[Button, ...]]:
    """The buttons in two rows: what to do now, and how it ends. None once it is resolved."""
    if not incident.open:
        return (), ()
    now = [*_answers(incident), *_taking(incident), *_halting(incident)]
    end = [*_resuming(incident), *_closing(incident)]
    return tuple(now), tuple(end)


def find(incident: Incident, deed: Pressed, value: str) -> Button | None:
    """The button that the incident shows now with this value; None: it is stale, or never was."""
    every = (button for row in shown(incident) for button in row)
    return next((each for each in every if each.deed == deed and each.value == value), None)


def read(value: str) -> Value | None:
    """A value taken apart; None when it is none of ours."""
    parts = value.rsplit(":", 2)
    if len(parts) != 3 or len(value) > 512 or not value.isprintable() or not parts[0]:
        return None
    return Value(*parts)


def same_scope(value: Value, scope: str) -> bool:
    """Whether the value is about the target of this scope."""
    return value.scope == _short(scope)


def deed_of(action_id: str) -> Pressed | None:
    """What the button with this action id does; None for another app's."""
    if not action_id.startswith(_PREFIX):
        return None
    name = action_id.removeprefix(_PREFIX).partition(".")[0]
    return next((deed for deed in get_args(Pressed) if deed == name), None)


def blocks(incident: Incident) -> list[ActionsBlock]:
    """The buttons as Block Kit, a row a block."""
    names = ("now", "end")
    rows = [(name, row) for name, row in zip(names, shown(incident), strict=True) if row]
    return [ActionsBlock(block_id=name, elements=_elements(row)) for name, row in rows]


def whom(target: Target) -> str:
    """The target in plain words: ``billing in session s-1``."""
    name = wording.name_of(target.agent)
    return wording.one_line(name if target.session is None else f"{name} in session {target.session}")


def _answers(incident: Incident) -> list[Button]:
    """One yes and one no to all that waits, as it stands."""
    awaited = [each for each in incident.containments.values() if each.awaited]
    if not awaited:
        return []
    about = _short(*(part for each in awaited for part in _proposal(each)))
    return [
        Button("approve", "Approve", incident.incident_id, about, style="primary"),
        Button("deny", "Deny", incident.incident_id, about, style="danger"),
    ]


def _proposal(asked: Containment) -> tuple[str, ...]:
    """What is asked, and when: the same question again is another one."""
    assert asked.proposal is not None
    return scope_of(asked.target), asked.proposal.model_dump_json(), str(asked.proposed_at)


def _taking(incident: Incident) -> list[Button]:
    if incident.attended:
        return []
    return [Button("acknowledge", "Acknowledge", incident.incident_id, style="primary")]


def _halting(incident: Incident) -> list[Button]:
    target = to_halt(incident)
    if target is None:
        return []
    known = incident.containment_of(target)
    about = "" if known is None or known.epoch is None else str(known.epoch)
    label = "Halt session" if target.session is not None else f"Halt {wording.one_line(target.agent)}"
    question = Question(
        f"Halt {whom(target)}?",
        f"{whom(target)} (tenant {wording.one_line(target.tenant)}) is ordered to stop at once, and stays"
        " stopped until somebody with the role for it presses Resume.",
        "Halt",
    )
    return [
        Button(
            "halt",
            cut(label, _LABEL_CHARS),
            incident.incident_id,
            about,
            target,
            style="danger",
            question=question,
        )
    ]


def to_halt(incident: Incident) -> Target | None:
    """Whom a halt would be for: the one session that is concerned, then the whole agent. None when that is
    halted, or the incident is not about one agent: a stop of everyone is typed, not pressed.
    """
    if incident.agent == EVERY_AGENT or incident.listed or incident.part is not None:
        return None
    agent = Target(tenant=incident.tenant, agent=incident.agent)
    sessions = {incident.session, *(each.session for each in incident.detections)} - {None}
    around = [agent]
    if len(sessions) == 1:
        around.insert(0, agent.model_copy(update={"session": sessions.pop()}))
    halted = [held for held in incident.containments.values() if held.active and held.wanted.mode == "halt"]
    return next((each for each in around if not any(covers(held.target, each) for held in halted)), None)


def _resuming(incident: Incident) -> list[Button]:
    held = resumable(incident)
    plain = len(held) == 1 and held[0].target.agent == incident.agent
    return [_resume(incident, each, plain) for each in held[:MOST_RESUMES]]


def resumable(incident: Incident) -> list[Containment]:
    """What the incident holds, the latest order first."""
    held = [each for each in incident.containments.values() if each.active and each.epoch is not None]
    return sorted(held, key=lambda each: str(each.issued_at), reverse=True)


def _resume(incident: Incident, held: Containment, plain: bool) -> Button:
    # The reason is of the order: it may be an agent's own words, and is cut to what a person reads.
    why = cut(wording.one_line(held.reason), 120)
    question = Question(
        f"Let {whom(held.target)} run again?",
        f"It was ordered to {describe(held.wanted)}: {why} Whoever else holds it lets go of it, too.",
        "Resume",
    )
    label = "Resume" if plain else f"Resume {whom(held.target)}"
    return Button(
        "resume",
        cut(label, _LABEL_CHARS),
        incident.incident_id,
        str(held.epoch),
        held.target,
        question=question,
    )


def _closing(incident: Incident) -> list[Button]:
    # What has got worse since is looked at again before it is closed.
    return [
        Button("resolve", "Resolve", incident.incident_id, incident.severity),
        Button("false_alarm", "False alarm", incident.incident_id, incident.severity),
    ]


def _elements(row: Iterable[Button]) -> list[ButtonElement]:
    counts: dict[str, int] = {}
    elements = []
    for each in row:
        counts[each.deed] = number = counts.get(each.deed, 0) + 1
        name = each.deed if number == 1 else f"{each.deed}.{number}"
        elements.append(
            ButtonElement(
                text=_plain(each.label),
                action_id=f"{_PREFIX}{name}",
                value=each.value,
                style=each.style,
                confirm=None if each.question is None else _confirm(each.question, each.style),
            )
        )
    return elements


def _confirm(question: Question, style: str | None) -> ConfirmObject:
    return ConfirmObject(
        title=_plain(cut(question.title, _TITLE_CHARS)),
        text=_plain(cut(question.text, _TEXT_CHARS)),
        confirm=_plain(question.yes),
        deny=_plain("Not now"),
        style=style,
    )


def _plain(text: str) -> PlainTextObject:
    return PlainTextObject(text=text, emoji=False)


def _short(*parts: str) -> str:
    """The parts as one mark of 16 characters."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
