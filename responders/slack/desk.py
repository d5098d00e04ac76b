"""Does what people press and type in Slack, if they may: the same decisions as the command line's.

Whatever a button says is looked up again in the transaction that acts on it (`buttons.find`); a press that no
longer counts is told so, and the message under it is brought up to date.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Final

import structlog

from responders import actions
from responders.decide import (
    Acknowledge,
    Action,
    ActionRefused,
    Approve,
    Contain,
    Deny,
    Lift,
    MarkFalseAlarm,
    Resolve,
)
from responders.handle import Responder
from responders.incident import Incident
from responders.metrics import INTERACTIONS
from responders.pages.wording import literal, resumed
from responders.policy import Deed, Policy
from responders.slack import buttons, commands, refresh, slash, stale
from responders.slack.buttons import Button, Pressed, whom
from responders.slack.interactions import Answer, Person, Press, Request, Typed, Workspace
from responders.slack.slash import Unreadable
from responders.store.database import StoreError
from schemas.control import ControlState

_USER_ID: Final = re.compile(r"[UW][A-Z0-9]{7,}")
_SEEN_AT_MOST: Final = 10_000
_BY_BUTTON: Final = "pressed in Slack"
_WORDS: Final[Mapping[Deed, str]] = {
    "acknowledge": "take an incident",
    "note": "add a note",
    "halt": "stop an agent",
    "resolve": "close an incident",
    "false_alarm": "call an incident a false alarm",
    "silence": "silence pages",
    "degrade": "step an agent down",
    "approve": "approve what the engine proposes",
    "deny": "deny what the engine proposes",
    "resume": "let an agent run again",
}
_log = structlog.get_logger(__name__)


class _Stale(ActionRefused):
    """The button is not shown any more; the message is mrkdwn."""


class Desk:
    """One for all of a workspace's requests. Synchronous; safe to use from several threads.

    Args:
        responder: what decides.
        arrived: called when something was decided, to have it carried out at once.
    """

    def __init__(self, responder: Responder, arrived: Callable[[], None] = lambda: None) -> None:
        self._responder = responder
        self._arrived = arrived
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = Lock()

    def answer(self, request: Request, workspace: Workspace) -> Answer | None:
        """Does it; what to tell the person. None for what was delivered before."""
        what = request.deed if isinstance(request, Press) else "command"
        if workspace.is_foreign(request.origin):
            INTERACTIONS.labels(what, "foreign").inc()
            _log.warning(
                "Slack request of another workspace or app refused",
                person=request.person.signed,
                team=request.origin.team,
                app=request.origin.app,
            )
            return Answer("This is not a workspace that Watchkeeper answers to; nothing was done.")
        if self._was_here(request.trigger):
            INTERACTIONS.labels(what, "repeated").inc()
            return None
        try:
            if isinstance(request, Press):
                return self._pressed(request)
            return self._typed(request)
        except StoreError as error:
            INTERACTIONS.labels(what, "failed").inc()
            _log.error("Slack request not served", person=request.person.signed, reason=str(error))
            self._forget(request.trigger)
            return Answer(f"Not done: the incident store does not answer ({literal(str(error))}). Try again.")

    def _was_here(self, trigger: str) -> bool:
        """Whether Slack has brought this one before; from now on it has."""
        if not trigger:
            return False
        with self._lock:
            if trigger in self._seen:
                return True
            self._seen[trigger] = None
            while len(self._seen) > _SEEN_AT_MOST:
                self._seen.popitem(last=False)
        return False

    def _forget(self, trigger: str) -> None:
        with self._lock:
            self._seen.pop(trigger, None)

    def _pressed(self, press: Press) -> Answer:
        refused = self._refusal(press.person, press.deed)
        if refused is not None:
            return refused
        value = buttons.read(press.value)
        if value is None:
            return self._ended(press, "unreadable", "this button is unreadable; nothing was done.")
        found: list[Button] = []

        def choice(incident: Incident) -> Action:
            button = buttons.find(incident, press.deed, press.value)
            if button is None:
                why = stale.why(incident, press.deed, value, self._responder.clock())
                raise _Stale(f"{incident.incident_id}: {why}")
            found[:] = [button]
            return action_of(button)

        try:
            incident = self._responder.choose(value.incident_id, press.person.signed, choice)
        except ActionRefused as error:
            if press.message is not None:
                refresh.message(self._responder, press.message)
                self._arrived()
            told = str(error) if isinstance(error, _Stale) else f"{literal(str(error))}; nothing was done."
            return self._ended(press, "stale", told)
        self._arrived()
        return self._ended(press, "done", _done(found[0], incident, self._resumed(found[0])))

    def _resumed(self, button: Button) -> str:
        """What came of letting the button's target run; empty for another button."""
        if button.deed != "resume" or button.target is None:
            return ""
        wider = actions.still_held_by(self._responder, button.target)
        return resumed(button.target.key, [whom(button.target)], [each.key for each in wider])

    def _ended(self, press: Press, how: str, text: str) -> Answer:
        INTERACTIONS.labels(press.deed, how).inc()
        _log.info("Slack button", button=press.deed, person=press.person.signed, result=how, told=text)
        return Answer(text)

    def _refusal(self, person: Person, deed: Deed) -> Answer | None:
        roles = self._responder.policy.roles
        if roles.may(deed, *person.names):
            return None
        INTERACTIONS.labels(deed, "forbidden").inc()
        _log.warning("not allowed in Slack", deed=deed, person=person.signed)
        return Answer(f"You may not {_WORDS[deed]}. {_who_may(self._responder.policy, deed)}")

    def _typed(self, typed: Typed) -> Answer:
        order = slash.parse(typed.text)
        if isinstance(order, Unreadable):
            INTERACTIONS.labels("command", "unreadable").inc()
            return commands.unreadable(order)
        deed = slash.DEEDS.get(order.verb)
        refused = None if deed is None else self._refusal(typed.person, deed)
        if refused is not None:
            return refused
        try:
            said = commands.carry_out(self._responder, order, typed.person.signed)
        except ActionRefused as error:
            INTERACTIONS.labels("command", "refused").inc()
            return Answer(f"Not done: {literal(str(error))}")
        INTERACTIONS.labels("command", "done").inc()
        if deed is not None:
            _log.info("Slack command", command=order.verb, what=order.what, person=typed.person.signed)
            self._arrived()
        return said


def action_of(button: Button) -> Action:
    if button.target is not None:
        held = ControlState(mode="halt")
        lift = Lift(button.target, _BY_BUTTON)
        return lift if button.deed == "resume" else Contain(button.target, held, _BY_BUTTON)
    return _ABOUT_THE_INCIDENT[button.deed]


_ABOUT_THE_INCIDENT: Final[Mapping[Pressed, Action]] = {
    "acknowledge": Acknowledge(),
    "approve": Approve(),
    "deny": Deny(reason=_BY_BUTTON),
    "resolve": Resolve(),
    "false_alarm": MarkFalseAlarm(),
}


def _done(button: Button, incident: Incident, resumed_as: str) -> str:
    """What a press has come to; the message itself says how it goes on."""
    name = literal("" if button.target is None else whom(button.target))
    words: Mapping[Pressed, str] = {
        "acknowledge": "it is yours; nobody else is called.",
        "approve": "approved. The order is on its way; the message says when it is obeyed.",
        "deny": "denied. What was proposed is not done.",
        "halt": f"{name} is ordered to halt; the message says when it has obeyed.",
        "resume": f"{literal(resumed_as)}.",
        "resolve": f"resolved.{commands.still_held(incident)}",
        "false_alarm": f"a false alarm.{commands.still_held(incident)}",
    }
    return f"{incident.incident_id}: {words[button.deed]}"


def _who_may(policy: Policy, deed: Deed) -> str:
    roles = policy.roles.who_may(deed)
    named = [f"{literal(role)} ({', '.join(map(_person, sorted(of)))})" for role, of in roles.items() if of]
    if named:
        return f"Who may: {', '.join(named)}."
    names = literal(", ".join(roles)) or "nobody"
    return f"Who may: {names}, but the policy's [roles] name no people for that: use the command line."


def _person(name: str) -> str:
    """As Slack shows a person, when the name is an id of theirs. To one reader: nobody is called."""
    return f"<@{name}>" if _USER_ID.fullmatch(name) else literal(name)
