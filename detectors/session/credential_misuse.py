"""credential_misuse: an agent works with a credential, or in a scope, that is not its own.

Statistic: none for a declared credential; an invariant, checked on the call itself. Without one: different
new credentials since the agent was refused. Unit: credentials. Source: R 7 (a mismatch, a scan for any
credential, a broad token found, everything deleted in nine seconds) and R 48, one credential per agent and
task.

A session whose start names credentials owns those: any other is critical, unless the agent's healthy history
knows it. A session that names none is not judged by the first it uses; but an agent that was refused and then
tries a second new one is looking for a key that fits: critical. One new credential after a refusal is what a
renewed token looks like. A credential or scope that an agent with a steady history has never used is a
warning; a history is steady when it holds at most one for three sessions, and all of it was kept. So is a
scope outside those the start names. What is only new (`new_uses`) is learned all the same: credentials are
renewed. Each agent and credential is reported once a session, sixteen in all, but an agent's first critical.

>>> from detectors.testing import events, run
>>> start = dict(type="session.start", credential="deployer")
>>> call = dict(type="tool.call", tool="list", arguments_hash="a1", status="ok", credential="deployer")
>>> run(CredentialMisuse(), events([start, call, *[dict(call, credential="root")] * 2]))
[('critical', 'e2', 1.0)]
>>> refused = dict(call, status="error", error_type="401")
>>> run(CredentialMisuse(), events([refused, *(dict(call, credential=f"key{n}") for n in range(3))]))
[('critical', 'e2', 2.0)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from detectors.base import HALT, NOTHING, SessionContext, name_hash
from detectors.bounded import put, remember, tell
from detectors.failures import kind_of
from detectors.summary import credential_hash
from detectors.telling import MAX_CREDENTIALS_BYTES
from schemas.detection import Detection

MAX_REMEMBERED = 16
SESSIONS_A_NAME = 3
MANY = "credential, and its session declares too many to tell whether it is one of them"


@dataclass(frozen=True, slots=True)
class CredentialMisuse:
    """`scan` is how many different new credentials after a refusal make a search for one that fits."""

    scan: int = 2

    name: ClassVar[str] = "credential_misuse"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("session.start", "tool.call")

    class State(msgspec.Struct, omit_defaults=True):
        """Hashes, joined: declared scopes; agents that were refused; credentials used by an agent, in all and
        since it was refused; what was reported.
        """

        scopes: bytes = b""
        refused: bytes = b""
        used: bytes = b""
        tried: dict[str, int] = {}
        reported: bytes = b""

    def update(self, state: State, event: Any, context: SessionContext) -> Iterable[Detection]:
        if event.type == "session.start":
            for scope in event.scopes or ():
                if name_hash(scope) not in state.scopes:
                    state.scopes = remember(state.scopes, name_hash(scope), 4 * MAX_REMEMBERED)
            return NOTHING
        found: list[Detection] = []
        if event.credential is not None and name_hash(event.credential) not in context.facts.credentials:
            found += self._judge_credential(state, event, context)
        if event.scope is not None:
            found += self._judge_scope(state, event, context)
        if event.status == "error" and kind_of(event.error_type or "") == "credentials":
            agent = name_hash(event.agent)
            if agent not in state.refused:
                state.refused = remember(state.refused, agent, MAX_REMEMBERED)
        return found

    def _judge_credential(self, state: State, event: Any, context: SessionContext) -> list[Detection]:
        own = context.facts.credentials
        hashed = credential_hash(event.credential)
        mark = name_hash(f"{event.agent}/{hashed}")
        if mark in state.used:
            return []
        state.used = remember(state.used, mark, MAX_REMEMBERED)
        profile = context.profile
        if profile is not None and hashed in profile.credentials:
            return []
        if own:
            told = len(own) < MAX_CREDENTIALS_BYTES
            what = "credential that is not its session's" if told else MANY
            return self._report(state, context, f"foreign/{hashed}" if told else "many", told, 1, what)
        if name_hash(event.agent) in state.refused:
            tried = state.tried.get(event.agent, 0) + 1
            put(state.tried, event.agent, tried, MAX_REMEMBERED)
            if tried >= self.scan:
                what = f"new credential, one of {tried} different ones since it was refused"
                return self._report(state, context, "scan", True, tried, what)
        if profile is not None and _steady(profile.credentials, profile.sessions, profile.open):
            what = f"credential that none of {profile.sessions:,} healthy sessions did"
            return self._report(state, context, f"new/{hashed}", False, 1, what)
        return []

    def _judge_scope(self, state: State, event: Any, context: SessionContext) -> list[Detection]:
        if name_hash(event.scope) in state.scopes:
            return []
        profile = context.profile
        if profile is not None and event.scope in profile.scopes:
            return []
        trigger = f"scope/{event.scope}"
        if state.scopes:
            what = f"scope that its session did not ask for: {event.scope}"
        elif profile is not None and _steady(profile.scopes, profile.sessions, profile.open):
            trigger = f"new/{trigger}"
            what = f"scope that none of {profile.sessions:,} healthy sessions did: {event.scope}"
        else:
            return []
        return self._report(state, context, trigger, False, 1, what)

    def _report(
        self, state: State, context: SessionContext, trigger: str, critical: bool, observed: int, what: str
    ) -> list[Detection]:
        trigger = f"{trigger}/{'' if trigger == 'many' else context.agent}"
        mark = name_hash(trigger)
        told = tell(state.reported, mark, MAX_REMEMBERED, name_hash(context.agent) if critical else b"")
        if told is None:
            return []
        state.reported = told
        found = context.detection(
            self,
            trigger=trigger,
            severity="critical" if critical else "warning",
            metric="new_uses" if trigger.startswith("new/") else "foreign_uses",
            observed=observed,
            expected=0,
            sample_size=context.facts.tool_calls,
            summary=f"{context.agent} used a {what}.",
            suggested=HALT if critical else None,
        )
        return [found]


def _steady(names: list[str], sessions: int, incomplete: bool) -> bool:
    return bool(names) and not incomplete and SESSIONS_A_NAME * len(names) <= sessions
