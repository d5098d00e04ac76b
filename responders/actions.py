"""What a person does: acknowledge, resolve, halt, resume. The command line, the HTTP API and Slack call
these.

An action is a decision in the store; the running service carries out what it wants. All raise StoreError when
the database does not answer and ActionRefused, in one line, when the action is not possible.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from config.settings import Settings
from responders import causes, policy, wanted
from responders.causes import SILENCE_ID
from responders.channels import opening as channels
from responders.containment import RUNGS, TargetError, parse_target
from responders.decide import (
    Acknowledge,
    ActionRefused,
    AddNote,
    Approve,
    Contain,
    Deny,
    EndSilence,
    Lift,
    MarkFalseAlarm,
    Resolve,
    Silence,
)
from responders.handle import Responder, Silenced
from responders.incident import Incident
from responders.policy import Policy
from responders.policy.section import no_detector
from responders.store.event_store import Store
from responders.store.migrations import upgrade
from schemas.control import EVERY_AGENT, EVERY_TENANT, ControlState, Rung, Target

_BY_HAND: Final = "ordered by hand"
_EVERYBODY: Final = frozenset({"all", "everyone", "everybody", "everything"})
_INCIDENT: Final = re.compile(r"INC-[A-Z2-7]{10}$", re.IGNORECASE)
LONGEST_SILENCE_MINUTES: Final = 30 * 24 * 60


@dataclass(frozen=True, slots=True)
class Unsilenced:
    """The silences that were ended, and the open incidents that may page again."""

    silences: tuple[str, ...]
    incidents: tuple[str, ...]


def installation_policy(settings: Settings) -> Policy:
    """The policy with the installation's own channels filled in. Raises PolicyError."""
    return policy.load(settings.policy).with_channels(*channels.defaults(settings))


def connect(settings: Settings, rules: Policy | None = None) -> Responder:
    """A responder on the settings' store, its schema brought up to date; close ``responder.store`` after use.
    It goes by ``rules``, or else by the settings' policy.

    Raises:
        StoreError: the database cannot be used.
        PolicyError: the policy file cannot be used.
    """
    rules = installation_policy(settings) if rules is None else rules
    upgrade(settings.database_url)
    return Responder(Store.open(settings.database_url), rules)


def acknowledge(responder: Responder, incident_id: str, person: str) -> Incident:
    """Someone is on it. Acknowledging again changes nothing."""
    return responder.act(_typed(incident_id), person, Acknowledge())


def resolve(responder: Responder, incident_id: str, person: str, reason: str = "") -> Incident:
    """Over. What is contained stays contained until it is resumed."""
    return responder.act(_typed(incident_id), person, Resolve(reason))


def false_alarm(responder: Responder, incident_id: str, person: str, reason: str = "") -> Incident:
    """There was nothing. What is contained stays contained until it is resumed."""
    return responder.act(_typed(incident_id), person, MarkFalseAlarm(reason))


def note(responder: Responder, incident_id: str, person: str, text: str) -> Incident:
    return responder.act(_typed(incident_id), person, AddNote(text))


def approve(responder: Responder, incident_id: str, person: str, target: str | None = None) -> Incident:
    """Do what the incident proposed: for ``target``, or all of it. Twice is refused."""
    return responder.act(_typed(incident_id), person, Approve(_optional(target)))


def deny(
    responder: Responder, incident_id: str, person: str, reason: str = "", target: str | None = None
) -> Incident:
    """Do not do what the incident proposed."""
    return responder.act(_typed(incident_id), person, Deny(_optional(target), reason))


def silence(
    responder: Responder,
    what: str,
    person: str,
    minutes: float,
    reason: str = "",
    detector: str | None = None,
) -> Silenced:
    """No page about ``what`` for so long: an incident, or a target (``agent``, ``tenant/agent``; a pattern
    for the agent), of one detector or of all. What is still open by then and nobody is on is paged.
    """
    if not 0 < minutes <= LONGEST_SILENCE_MINUTES:
        raise ActionRefused(f"a silence of {minutes:g} minutes: give 1 to {LONGEST_SILENCE_MINUTES}")
    unknown = None if detector is None else no_detector(detector)
    if unknown is not None:
        raise ActionRefused(unknown)
    until = responder.clock() + timedelta(minutes=minutes)
    if _INCIDENT.match(what.strip()):
        responder.act(_typed(what), person, Silence(until, reason))
        return Silenced(None, until, (_typed(what),))
    target = _target(what)
    if target.session is not None:
        raise ActionRefused("a silence is for an agent or an incident: leave the session out")
    return responder.silence(person, target, detector, until, reason)


def unsilence(responder: Responder, what: str, person: str) -> Unsilenced:
    """End a silence before its time: of an incident, by its own id (``sil-…``), or of what it was ordered
    for. What it kept back is told now, if it is still open and nobody is on it.
    """
    if _INCIDENT.match(what.strip()):
        responder.act(_typed(what), person, EndSilence())
        return Unsilenced((), (_typed(what),))
    with responder.store.reading() as connection:
        in_force = causes.silences_in_force(connection, responder.clock())
    asked = what.strip()
    ended = [each for each in in_force if each.silence_id == asked]
    if not ended and not asked.startswith(SILENCE_ID):
        target = _target(asked)
        ended = [each for each in in_force if (each.tenant, each.agent) == (target.tenant, target.agent)]
    if not ended:
        raise ActionRefused(f"no silence of {what} is in force: list them with watchkeeper silences")
    concerned = responder.unsilence(person, ended)
    return Unsilenced(tuple(each.silence_id for each in ended), concerned)


def halt(responder: Responder, target: str, person: str, reason: str = _BY_HAND) -> Incident:
    """Stop ``target`` (``agent``, ``tenant/agent[/session]``); the incident that now holds it."""
    return contain(responder, target, ControlState(mode="halt"), person, reason)


def halt_all(responder: Responder, person: str, reason: str = _BY_HAND, tenant: str = "default") -> Incident:
    """The global stop of a tenant."""
    return contain(responder, f"{tenant}/{EVERY_AGENT}", ControlState(mode="halt"), person, reason)


def degrade(responder: Responder, target: str, rung: str, person: str, reason: str = _BY_HAND) -> Incident:
    """Step ``target`` down to ``rung`` of the ladder: full, rag, keyword or static."""
    return contain(responder, target, ControlState(mode="degrade", ladder=_rung(rung)), person, reason)


def contain(
    responder: Responder, target: str, state: ControlState, person: str, reason: str = _BY_HAND
) -> Incident:
    """Hold ``target`` in ``state``. What would hold nobody who is meant is refused."""
    about = _target(target)
    if target.strip().lower() in _EVERYBODY:
        raise ActionRefused(
            f"every agent is written *, and halt --all stops them; one called so is default/{about.agent}"
        )
    if EVERY_AGENT in about.agent and about.agent != EVERY_AGENT:
        raise ActionRefused(f"{about.agent} is a pattern: name one agent, or * for every one")
    return responder.contain(person, Contain(about, state, reason))


def resume(responder: Responder, target: str, person: str, reason: str = _BY_HAND) -> tuple[Target, ...]:
    """Let ``target`` and its sessions run again, whoever holds them. Whom that was about: nobody, when
    nothing held it.

    Needs the operator's key, which the service that publishes has. The global stop is lifted apart (``*``).
    """
    return responder.lift(person, Lift(_target(target), reason))


def still_held_by(responder: Responder, asked: Target) -> tuple[Target, ...]:
    """What is held and has ``asked`` in it: the agent of a session, every agent of its tenant, everybody.
    Until that is resumed too, ``asked`` does not run.
    """
    wider = [
        Target(tenant=tenant, agent=EVERY_AGENT) for tenant in dict.fromkeys((asked.tenant, EVERY_TENANT))
    ]
    if asked.session is not None:
        wider.insert(0, Target(tenant=asked.tenant, agent=asked.agent))
    with responder.store.reading() as connection:
        return tuple(each for each in wider if each != asked and wanted.incidents_holding(connection, each))


def _typed(incident_id: str) -> str:
    """The id as people type it: in lower case, or without what all of them begin with."""
    typed = incident_id.strip().upper()
    return f"INC-{typed}" if _INCIDENT.match(f"INC-{typed}") else typed


def _target(text: str) -> Target:
    try:
        return parse_target(text)
    except TargetError as error:
        raise ActionRefused(str(error)) from None


def _optional(text: str | None) -> Target | None:
    return None if text is None else _target(text)


def _rung(text: str) -> Rung:
    for rung in RUNGS:
        if text == rung:
            return rung
    raise ActionRefused(f"{text!r} is not a level: use {', '.join(RUNGS)}")
