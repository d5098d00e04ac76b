"""What to do about something that happened: pure, from the incident so far to new facts and effects.

`decide` reads no clock, makes no id and does no I/O: it is given `now` and `ids`, and what lies `around`. The
caller stores what it returns in one transaction (`responders.handle`), so a decision is either whole or did
not happen. What it is made of is in `responders.decider`, a file a concern.
"""

from __future__ import annotations

from datetime import datetime

from responders.decider.containment import (
    on_ack,
    on_approval_due,
    on_delivered,
    on_proof_due,
    on_undeliverable,
)
from responders.decider.detections import on_absorb, on_detection, on_ignored, on_merge
from responders.decider.draft import OPENED, Decision, Draft, Follow
from responders.decider.inputs import (
    NOTHING_AROUND,
    Absorb,
    Acknowledge,
    AckSeen,
    Action,
    ActionRefused,
    AddNote,
    Approve,
    Around,
    CommandDelivered,
    CommandRefused,
    Consequence,
    Contain,
    Deny,
    DetectionSeen,
    EndSilence,
    Ids,
    Input,
    Lift,
    ListInDigest,
    MarkFalseAlarm,
    MergeInto,
    NoSuchIncident,
    OrderIgnored,
    PageOutcome,
    PartFails,
    PartWorks,
    PersonActs,
    Resolve,
    Silence,
    SilenceBegins,
    SilenceEnds,
    SilenceInForce,
    TimerFired,
)
from responders.decider.paging import (
    list_in_digest,
    on_deferred_due,
    on_digest_due,
    on_escalation_due,
    on_late,
    on_page_outcome,
)
from responders.decider.parts import on_part_fails, on_part_works
from responders.decider.people import on_person, on_silence, on_silence_end
from responders.incident import Incident
from responders.policy import Policy


def decide(
    given: Input,
    incident: Incident | None,
    policy: Policy,
    now: datetime,
    ids: Ids,
    around: Around = NOTHING_AROUND,
) -> Decision:
    """The decision about ``given`` for ``incident`` (None: no open incident is concerned).

    Deciding twice about the same thing decides nothing the second time.

    Raises:
        ActionRefused: a person asked for what is not possible.
    """
    draft = Draft(incident, policy, now, ids, around)
    match given:
        case DetectionSeen():
            on_detection(draft, given.detection)
        case PersonActs():
            on_person(draft, given.person, given.action)
        case ListInDigest():
            list_in_digest(draft, given)
        case PartFails():
            on_part_fails(draft, given)
        case _ if incident is not None:
            _about_an_incident(draft, given)
    return draft.done()


def _about_an_incident(draft: Draft, given: Input) -> None:
    match given:
        case AckSeen():
            on_ack(draft, given)
        case CommandDelivered():
            on_delivered(draft, given)
        case CommandRefused():
            on_undeliverable(draft, given)
        case PageOutcome():
            on_page_outcome(draft, given)
        case TimerFired():
            _on_timer(draft, given)
        case OrderIgnored():
            on_ignored(draft, given)
        case Absorb():
            on_absorb(draft, given)
        case MergeInto():
            on_merge(draft, given)
        case PartWorks():
            on_part_works(draft, given)
        case SilenceBegins():
            on_silence(draft, given.person, given.silence)
        case SilenceEnds():
            on_silence_end(draft, given)


def _on_timer(draft: Draft, given: TimerFired) -> None:
    match given.kind:
        case "confirm" | "verify":
            on_proof_due(draft, given)
        case "approval":
            on_approval_due(draft, given)
        case "page":
            on_deferred_due(draft)
        case "late":
            on_late(draft)
        case "escalate":
            on_escalation_due(draft, given.number)
        case "digest":
            on_digest_due(draft, given.number)


__all__ = [
    "NOTHING_AROUND",
    "OPENED",
    "Absorb",
    "AckSeen",
    "Acknowledge",
    "Action",
    "ActionRefused",
    "AddNote",
    "Approve",
    "Around",
    "CommandDelivered",
    "CommandRefused",
    "Consequence",
    "Contain",
    "Decision",
    "Deny",
    "DetectionSeen",
    "EndSilence",
    "Follow",
    "Ids",
    "Input",
    "Lift",
    "ListInDigest",
    "MarkFalseAlarm",
    "MergeInto",
    "NoSuchIncident",
    "OrderIgnored",
    "PageOutcome",
    "PartFails",
    "PartWorks",
    "PersonActs",
    "Resolve",
    "Silence",
    "SilenceBegins",
    "SilenceEnds",
    "SilenceInForce",
    "TimerFired",
    "decide",
]
