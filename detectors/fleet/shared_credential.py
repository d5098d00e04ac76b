"""shared_credential: a credential is used by more agents than one and its helper.

Statistic: different agents that have used a credential. Unit: agents. Source: R 48, one credential per agent
and task; use by a third is flagged. What a session's start declares counts for the agent that starts it: who
works in the session with it acts for that agent. An agent is its name, so a pool of workers under one name
may share theirs. A warning: who shares a key cannot be told apart or revoked alone, but no harm is done yet.
Each credential is reported once in a tenant. Of more than 512 in a day those that two use are kept, and a
sample of the others that stays the same.

>>> from detectors.testing import fact, run_facts
>>> used = [fact(n, kind="credential", agent=name, credential="c") for n, name in enumerate("aabbc")]
>>> [(one.severity, one.agent, one.observed) for one in run_facts(SharedCredential(), used)]
[('warning', 'c', 3.0)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from detectors.base import NOTHING, Beginning, FleetContext
from detectors.summary import Fact
from schemas.detection import Detection

MAX_CREDENTIALS = 512
KEPT = 448
DAY_MS = 24 * 3_600_000


class Use(msgspec.Struct, array_like=True):
    """Who has used a credential, and the earliest and the last use."""

    since_ms: int
    since_event_id: str
    agents: list[str] = []
    last_ms: int = 0


@dataclass(frozen=True, slots=True)
class SharedCredential:
    """`agents` is how many may share a credential."""

    agents: int = 2

    name: ClassVar[str] = "shared_credential"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("credential",)

    class State(msgspec.Struct):
        """By hash of the credential, the one used least recently first."""

        uses: dict[str, Use] = {}

    def update(self, state: State, fact: Fact, context: FleetContext) -> Iterable[Detection]:
        credential = fact.credential or ""
        use = state.uses.pop(credential, None)
        if use is None:
            use = Use(fact.time_ms, fact.event_id)
        elif (fact.time_ms, fact.event_id) < (use.since_ms, use.since_event_id):
            use.since_ms, use.since_event_id = fact.time_ms, fact.event_id
        use.last_ms = max(use.last_ms, fact.time_ms)
        state.uses[credential] = use
        news = fact.agent not in use.agents and len(use.agents) <= self.agents
        if news:
            use.agents.append(fact.agent)
        if len(state.uses) > MAX_CREDENTIALS:
            _forget_some(state.uses, fact.time_ms - DAY_MS)
        if not news or len(use.agents) <= self.agents:
            return NOTHING
        names = ", ".join(sorted(use.agents))
        return (
            context.detection(
                self,
                trigger=credential,
                severity="warning",
                metric="agents_sharing",
                observed=len(use.agents),
                expected=1,
                threshold=self.agents,
                sample_size=len(use.agents),
                since=Beginning(use.since_event_id, use.since_ms, context.source.offset),
                summary=f"{names} use the same credential ({credential}): give each one of its own.",
            ),
        )


def _forget_some(uses: dict[str, Use], before_ms: int) -> None:
    """Those not used for a day, else those that one agent uses, else any: those of the largest hashes."""

    def order(credential: str) -> tuple[bool, bool, str]:
        use = uses[credential]
        return use.last_ms < before_ms, len(use.agents) == 1, credential

    for each in sorted(uses, key=order)[KEPT:]:
        del uses[each]
