"""A part of the engine that fails its people: a channel that takes no pages, a topic that cannot be read.

One incident a part and cause, told in any way but the one that is broken, and over by itself. What goes wrong
in telling it opens no other.
"""

from __future__ import annotations

from typing import Final

from responders.decider.draft import ENGINE, OPENED, TEXT_CHARS, Draft
from responders.decider.inputs import PartFails, PartWorks
from responders.decider.paging import send, told_of
from responders.pages.wording import CHANNEL, part_fails
from responders.policy import Told
from schemas import incident as log

ITS_TENANT: Final = "default"
ITSELF: Final = "watchkeeper"
MOST_FAILURES: Final = 300
"""In the log of one incident; what comes after is not counted."""


def on_part_fails(draft: Draft, given: PartFails) -> None:
    fact = log.PartFailed(
        part=given.part,
        cause=given.cause[:256],
        reason=given.reason[:TEXT_CHARS],
        incident=given.incident,
        page=given.page,
        told=given.told,
    )
    opens = draft.maybe is None
    if opens:
        seed = f"part/{given.part}/{given.cause}/{draft.ids.command_id()}"
        summary = part_fails(given.part, given.cause, given.reason, 0, given.told)[:TEXT_CHARS]
        draft.open(
            seed,
            log.Triggered(
                tenant=ITS_TENANT, agent=ITSELF, severity="critical", onset=draft.now, summary=summary
            ),
            ENGINE,
        )
    known = draft.incident.part_failures
    if len(known) >= MOST_FAILURES or (not opens and (given.incident, given.page) in known):
        return
    draft.add(fact)
    if opens:
        told = told_of(draft)
        fallback = draft.policy.paging.fallback
        others = (*told.channels, fallback) if given.part.startswith(CHANNEL) and fallback else told.channels
        named = tuple(dict.fromkeys(each for each in others if each != draft.incident.broken_channel))
        send(draft, OPENED, draft.incident.headline, Told(named, told.people))


def on_part_works(draft: Draft, given: PartWorks) -> None:
    if not draft.incident.open or draft.incident.part != given.part:
        return
    draft.cancel("page", "late", "escalate", "approval", "digest")
    name = given.part.removeprefix(CHANNEL)
    again = "takes pages again" if given.part.startswith(CHANNEL) else "is read again"
    draft.add(log.Resolved(reason=f"{name.removeprefix('topic ')} {again}"))
