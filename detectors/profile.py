"""What is normal for an agent, as session detectors read it: `context.profile`, or None while not known.

A profile is folded from summaries of healthy sessions (`detectors.learning`) and travels over the compacted
`agent.profiles`, so a session is judged by what its agent does on every partition. It says only what was
seen: a detector has to ask `open` before it takes absence for novelty.

Replay: a profile is knowledge, not state. After a crash a session may be shown to its detectors again with a
newer profile than the first time. A detection that rests on a profile must therefore have a trigger made of
the event alone (the tool, the key, the credential), so that when it is found again it is the same one. What
may differ: a detection is not found a second time because its subject has become normal meanwhile (its first
copy stays), or it is found only the second time because there was no profile yet the first time.
"""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.profile import PROFILE_SCHEMA

MIN_SESSIONS: Final = 5
"""Healthy sessions before there is a profile at all."""

MAX_DECODED: Final = 4_096


class Range(msgspec.Struct):
    """What healthy sessions took: quantiles of a sample of them, and the most of all."""

    p50: float = 0.0
    p95: float = 0.0
    max: float = 0.0


class ToolProfile(msgspec.Struct, omit_defaults=True):
    """How a tool is called, and what it returns, when all is well; fields as in `schemas.profile`."""

    sessions: int = 0
    calls: int = 0
    keyed_calls: int = 0
    required: list[str] = []
    keys: list[str] = []
    shapes: dict[str, int] = {}
    effects: list[str] = []
    counted_calls: int = 0
    short_calls: int = 0
    hollow_calls: int = 0
    empty_calls: int = 0
    open: bool = False


class AgentProfile(msgspec.Struct, tag_field="schema", tag=PROFILE_SCHEMA, omit_defaults=True, kw_only=True):
    """One agent; fields as in `schemas.profile`."""

    tenant: str
    agent: str
    sessions: int
    updated_ms: int = 0
    tools: dict[str, ToolProfile] = {}
    credentials: list[str] = []
    scopes: list[str] = []
    models: dict[str, list[str]] = {}
    steps: Range = msgspec.field(default_factory=Range)
    tokens: Range = msgspec.field(default_factory=Range)
    cost_usd: Range = msgspec.field(default_factory=Range)
    duration_ms: Range = msgspec.field(default_factory=Range)
    input_tokens: Range = msgspec.field(default_factory=Range)
    open: bool = False

    @property
    def key(self) -> str:
        """The record key on `agent.profiles`: ``tenant/agent``."""
        return f"{self.tenant}/{self.agent}"

    def encode(self) -> bytes:
        """JSON of `schemas.profile.AgentProfile`, defaults left out; the same bytes for the same profile."""
        return msgspec.json.encode(self, order="deterministic")


_DECODER = msgspec.json.Decoder(AgentProfile)


def decode(value: bytes) -> AgentProfile:
    """A record of `agent.profiles`. Raises `msgspec.DecodeError` when it is not one."""
    profile: AgentProfile = _DECODER.decode(value)
    return profile


class Profiles:
    """The profiles of all agents, as far as they are known to this process.

    They are kept as the bytes they came in and decoded when somebody asks; at most `max_decoded` are kept
    decoded, so that a fleet costs what its profiles weigh.
    """

    def __init__(self, *, max_decoded: int = MAX_DECODED) -> None:
        self._max_decoded = max_decoded
        self._raw: dict[str, bytes] = {}
        self._decoded: dict[str, AgentProfile] = {}

    def __len__(self) -> int:
        return len(self._raw)

    def take(self, key: str, value: bytes | None) -> None:
        """Keep a record of `agent.profiles` in place of the one before; None deletes it."""
        self._decoded.pop(key, None)
        if value is None:
            self._raw.pop(key, None)
        else:
            self._raw[key] = value

    def of(self, key: str) -> AgentProfile | None:
        """The profile of ``tenant/agent``. A record that cannot be read counts as none."""
        known = self._decoded.get(key)
        if known is not None:
            return known
        raw = self._raw.get(key)
        if raw is None:
            return None
        try:
            profile = decode(raw)
        except msgspec.DecodeError:
            del self._raw[key]
            return None
        if len(self._decoded) >= self._max_decoded:
            del self._decoded[next(iter(self._decoded))]
        self._decoded[key] = profile
        return profile
