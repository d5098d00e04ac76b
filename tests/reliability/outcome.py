"""What a run has left behind, in a form in which two runs can be compared.

Not compared is what may differ between two correct runs: offsets on `agent.windows`, since a replay writes
windows again; state that awaits deletion; and where a window's floor stands that the partition's covers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from detectors.records import AGENT_PREFIX, StoredAgent, StoredSession, StoredWindows
from detectors.windows import Mark, Window
from detectors.windows import decode as decode_window
from schemas import topics
from schemas.detection import DETECTION, Detection
from streams import behaviour, sessions
from streams.changelog import changelog_topic, read_state
from streams.transport import ClientSettings
from tests.integration.parts.kafka_client import run_apart
from tests.reliability.bus import Bus

_SHOWN = 5

State = dict[str, bytes]
"""Stage, partition and key → the value in a canonical form."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`detections` by id, with who and what; `windows` with all that is on their topic; `state` by key."""

    detections: dict[str, str]
    windows: frozenset[str]
    state: State

    @property
    def digest(self) -> str:
        """The same for the same state."""
        whole = hashlib.sha256()
        for key, value in sorted(self.state.items()):
            whole.update(key.encode() + b"\x00" + value + b"\x00")
        return whole.hexdigest()

    def assert_equals(self, base: Outcome) -> None:
        differences = self.differences(base)
        if differences:
            pytest.fail("\n".join(["not as in the base run:", *differences]), pytrace=False)

    def differences(self, base: Outcome) -> list[str]:
        """What is not as in `base`, for people; empty when the two are equal."""
        found = _named("detections", self.detections, base.detections)
        found += _sets("windows", self.windows, base.windows)
        found += _sets("state keys", frozenset(self.state), frozenset(base.state))
        changed = [key for key in self.state.keys() & base.state.keys() if self.state[key] != base.state[key]]
        if changed:
            found.append(f"{len(changed)} state values differ")
            for key in sorted(changed)[:_SHOWN]:
                found += [f"  {key}:", *(f"    {_plain(state[key])}" for state in (self.state, base.state))]
        return found


def outcome_of(bus: Bus, group: str) -> Outcome:
    """What the run of this consumer group has left."""
    windows = (decode_window(value) for value in bus.values(topics.WINDOWS))
    return Outcome(
        detections={found.detection_id: _described(found) for found in detections_on(bus)},
        windows=frozenset(repr(window) for window in windows if not isinstance(window, Mark)),
        state=state_of(bus.broker.bootstrap, group),
    )


def detections_on(bus: Bus) -> list[Detection]:
    """All that was written; what was written twice is there twice."""
    return [DETECTION.validate_json(value) for value in bus.values(topics.DETECTIONS)]


def state_of(bootstrap: str, group: str) -> State:
    """The state of all stages."""
    state: State = {}
    for stage, canonical in ((sessions.NAME, _canonical_session_state), (behaviour.NAME, _canonical_agent)):
        settings = ClientSettings(bootstrap, group)
        partitions = run_apart(read_state(settings, changelog_topic(group, stage)))
        for partition, live in partitions.items():
            for key, value in live.items():
                plain = canonical(key, value)
                if plain is not None:
                    state[f"{stage}[{partition}] {key.decode()}"] = _canonical(plain)
    return state


def _canonical_session_state(key: bytes, value: bytes) -> Any:
    if key.startswith(AGENT_PREFIX):
        windows = msgspec.msgpack.decode(value, type=StoredWindows)
        return (windows.applied, sorted(windows.windows, key=_place)) if windows.windows else None
    session = msgspec.msgpack.decode(value, type=StoredSession)
    if session.facts.events == 0:
        return None  # forgotten; only its deletion is still to come
    return session.facts, session.applied, session.seen, _slots(session.slots)


def _canonical_agent(_: bytes, value: bytes) -> Any:
    agent = msgspec.msgpack.decode(value, type=StoredAgent)
    pending = sorted((window for window, _ in agent.pending), key=_place)
    return agent.floor_ms, pending, _slots(agent.slots)


def _canonical(value: Any) -> bytes:
    """1.0 and 1 are the same number: a float that was decoded may have been an integer before. Keys are
    sorted: facts of a tenant come from all partitions, so what was used last may differ.
    """
    return msgspec.msgpack.encode(_with_integers(msgspec.to_builtins(value, builtin_types=(bytes,))))


def _with_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_integers(value[name]) for name in sorted(value, key=repr)}
    if isinstance(value, list | tuple):
        return [_with_integers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _place(window: Window) -> tuple[int, int]:
    return window.start_ms, window.source_partition


def _slots(raw: dict[str, msgspec.Raw]) -> dict[str, Any]:
    return {name: msgspec.msgpack.decode(value) for name, value in raw.items()}


def _plain(value: bytes) -> str:
    return repr(msgspec.msgpack.decode(value, strict=False))


def _described(found: Detection) -> str:
    return (
        f"{found.detector} of {found.agent} {found.session or ''} at {found.time:%H:%M:%S}: {found.summary}"
    )


def _named(what: str, mine: dict[str, str], base: dict[str, str]) -> list[str]:
    """By id: what a detection says may rest on what was learned of the agent meanwhile."""
    too_few = frozenset(base[key] for key in base.keys() - mine.keys())
    too_many = frozenset(mine[key] for key in mine.keys() - base.keys())
    return _sets(what, too_many, too_few)


def _sets(what: str, mine: frozenset[Any], base: frozenset[Any]) -> list[str]:
    lines = []
    for verb, items in (("too few", base - mine), ("too many", mine - base)):
        if items:
            lines.append(f"{what}: {len(items)} {verb}: {sorted(items)[:_SHOWN]}")
    return lines
