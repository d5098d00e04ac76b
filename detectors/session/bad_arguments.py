"""bad_arguments: a tool is called without arguments it needs, or with some it does not take.

Statistic: none; the names in `argument_keys` against what the tool says it takes. Unit: argument names.
Source: R 3, one bad argument at step 2 corrupted every later step.

Declared: `tool_schemas` of `session.start`; of two declarations of a tool the later counts. Without
`properties` no name is unknown.

Learned: what a tool ever got in the agent's healthy sessions. Derivation: by Laplace's rule of succession a
name is first seen in the next of n sessions with probability 1 / (n + 2), so ten sessions and thirty calls
are asked for; and of a tool that takes ever new names (fewer than five calls to each of them) none is
unknown. What was always given may still be optional, so without a declaration nothing is missing.

A call that failed was refused by the tool, which is how models learn to call it: a warning. One that was
taken without what it needs is critical where that was declared. Anything else is a warning. Each tool is
reported once a session at each severity, 16 and each agent's first critical at most. Of the declared schemas
short hashes are kept, of 256 names and 32 tools; what is beyond is not judged.

>>> from detectors.testing import events, run
>>> schemas = {"pay": {"required": ["sum"], "properties": ["sum", "to"]}}
>>> start = dict(type="session.start", tool_schemas=schemas)
>>> call = dict(type="tool.call", tool="pay", arguments_hash="a", argument_keys=["sum"], status="ok")
>>> run(BadArguments(), events([start, call, dict(call, argument_keys=["sum", "too"])]))
[('warning', 'e2', 1.0)]
>>> run(BadArguments(), events([start, dict(call, argument_keys=["amount"])]))
[('critical', 'e1', 2.0)]
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

import msgspec
import xxhash

from detectors.base import NOTHING, SessionContext, name_hash
from detectors.bounded import tell
from schemas.detection import Detection, Severity
from schemas.event import SessionStart, ToolCall

MAX_TOLD: Final = 16
MAX_TOOLS: Final = 32
MAX_NAMES: Final = 256
HASH_BYTES: Final = 2


@lru_cache(maxsize=4_096)
def _hash(name: str) -> bytes:
    """Two bytes: names taken for one another, a pair in 65,536, can only hide a bad call."""
    return xxhash.xxh32_digest(name.encode())[:HASH_BYTES]


class Schema(msgspec.Struct, array_like=True):
    """Hashes of names, joined: what must be given, and what else may be (None: anything)."""

    required: bytes
    optional: bytes | None


@dataclass(frozen=True, slots=True)
class BadArguments:
    """How many healthy sessions and calls of a tool, and calls to a name, make its arguments known."""

    learned_sessions: int = 50
    learned_calls: int = 100
    calls_a_name: int = 5

    name: ClassVar[str] = "bad_arguments"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("session.start", "tool.call")

    class State(msgspec.Struct, omit_defaults=True):
        """`schemas` by the hash of a tool's name, `told` the hashes of what was reported, joined."""

        schemas: dict[bytes, Schema] = {}
        names: int = 0
        told: bytes = b""

    def update(
        self, state: State, event: SessionStart | ToolCall, context: SessionContext
    ) -> Iterable[Detection]:
        if event.type == "session.start":
            _declare(state, event)
            return NOTHING
        keys = event.argument_keys
        if keys is None:
            return NOTHING
        schema = state.schemas.get(xxhash.xxh32_digest(event.tool.encode())) if state.schemas else None
        if schema is None:
            missing, unknown = 0, self._never_given(event.tool, keys, context)
        else:
            missing, unknown = _misfits(schema, keys)
        if not (missing or unknown):
            return NOTHING
        severity: Severity = "critical" if missing and event.status == "ok" else "warning"
        digest = name_hash(f"{severity}/{event.tool}")
        told = tell(state.told, digest, MAX_TOLD, name_hash(event.agent) if severity == "critical" else b"")
        if told is None:
            return NOTHING
        state.told = told
        parts = [f"without {missing} it needs"] if missing else []
        parts += [f"with {', '.join(unknown)}, which it does not take"] if unknown else []
        taken = "was taken" if event.status == "ok" else "failed"
        return (
            context.detection(
                self,
                trigger=event.tool,
                severity=severity,
                metric="bad_arguments",
                observed=missing + len(unknown),
                expected=0,
                threshold=0,
                sample_size=max(1, len(keys)),
                summary=f"{event.agent} called {event.tool} {' and '.join(parts)}; the call {taken}.",
            ),
        )

    def _never_given(self, tool: str, keys: Collection[str], context: SessionContext) -> list[str]:
        """The names that no healthy call had."""
        known = context.profile.tools.get(tool) if context.profile is not None else None
        if known is None or known.open or known.sessions < self.learned_sessions:
            return []
        enough = max(self.learned_calls, self.calls_a_name * len(known.keys))
        return [key for key in keys if known.keyed_calls >= enough and key not in known.keys]


def _misfits(schema: Schema, keys: Collection[str]) -> tuple[int, list[str]]:
    """How many of the required are missing, and which are not known."""
    required, optional = schema.required, schema.optional
    known = None if optional is None else required + optional
    unknown = [key for key in keys if known is not None and _hash(key) not in known]
    given = {one for key in keys if (one := _hash(key)) in required}
    return len(required) // HASH_BYTES - len(given), unknown


def _declare(state: BadArguments.State, event: SessionStart) -> None:
    for tool, declared in (event.tool_schemas or {}).items():
        required = {_hash(name) for name in declared.required}
        optional = {_hash(name) for name in declared.properties} - required
        old = state.schemas.pop(key := xxhash.xxh32_digest(tool.encode()), None)
        state.names -= 0 if old is None else len(old.required + (old.optional or b"")) // HASH_BYTES
        names = len(required) + len(optional)
        if state.names + names <= MAX_NAMES and len(state.schemas) < MAX_TOOLS:
            state.names += names
            known = b"".join(sorted(optional)) if declared.properties else None
            state.schemas[key] = Schema(b"".join(sorted(required)), known)
