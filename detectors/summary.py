"""What a session stage tells the behaviour stage besides windows: what a healthy session did, and facts that
only mean something beside those of other sessions.

A `Lesson` grows inside the session's own state, so it is small: `ROOM` characters of names and shapes for all
agents together; a result shape there is no room for is kept as its hash, anything else that does not fit
marks its owner `open`. It is made of the events alone, never of what is already known, so that a replay makes
it again.

>>> from detectors.testing import event
>>> call = dict(type="tool.call", tool="search", arguments_hash="a", argument_keys=["q"], status="ok")
>>> lesson = Lesson()
>>> lesson.add_tool_call(event(0, call))
>>> lesson.add_tool_call(event(1, dict(call, argument_keys=["q", "page"])))
>>> tool = lesson.agents["agent"].tools["search"]
>>> tool.required, tool.keys, tool.calls
(['q'], ['q', 'page'], 2)
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from xxhash import xxh64_hexdigest

from schemas.window import FACT_SCHEMA, SUMMARY_SCHEMA

ROOM: Final = 1_280
MAX_AGENTS: Final = 8
MAX_SHAPES: Final = 8
MAX_SHAPE_CHARS: Final = 400
OVERHEAD: Final = 4
TOOL_OVERHEAD: Final = 32

FactKind = Literal["spawn", "credential", "deployment"]


class ToolUse(msgspec.Struct, omit_defaults=True):
    """How a session called a tool, and what came back; calls that failed are left out."""

    calls: int = 0
    keyed_calls: int = 0
    required: list[str] = []
    keys: list[str] = []
    shapes: list[str] = []
    effects: list[str] = []
    counted_calls: int = 0
    short_calls: int = 0
    hollow_calls: int = 0
    empty_calls: int = 0
    open: bool = False


class AgentUse(msgspec.Struct, omit_defaults=True):
    """What one agent of a session used. Credentials are hashes, in hex."""

    tools: dict[str, ToolUse] = {}
    credentials: list[str] = []
    scopes: list[str] = []
    models: dict[str, list[str]] = {}
    input_tokens: int = 0
    open: bool = False


class Lesson(msgspec.Struct, omit_defaults=True):
    """What a session has shown so far, by agent."""

    room: int = ROOM
    agents: dict[str, AgentUse] = {}

    def add_tool_call(self, event: Any) -> None:
        """Take a `tool.call` that succeeded."""
        use = self.agents.get(event.agent)
        if use is None and (use := self._agent(event.agent)) is None:
            return
        tool = use.tools.get(event.tool)
        if tool is None and (tool := self._tool(use, event.tool)) is None:
            return
        tool.calls += 1
        keys = event.argument_keys
        if keys is not None:
            tool.keyed_calls += 1
            if keys != tool.keys:
                self._add_keys(tool, keys)
        shape = event.result_shape
        if shape is not None and shape not in tool.shapes:
            self._add_shape(tool, shape)
        items = event.result_items
        if items is not None:
            _count_items(tool, items, event.result_total)
        if event.effect is not None and event.effect not in tool.effects:
            tool.open |= not self._add_name(tool.effects, event.effect)
        if event.credential is not None:
            self.add_credential(event.agent, event.credential)
        if event.scope is not None and event.scope not in use.scopes:
            use.open |= not self._add_name(use.scopes, event.scope)

    def add_llm_call(self, event: Any) -> None:
        """Take an `llm.call` that succeeded."""
        use = self.agents.get(event.agent)
        if use is None and (use := self._agent(event.agent)) is None:
            return
        use.input_tokens = max(use.input_tokens, event.input_tokens)
        response = event.response_model
        if response is None:
            return
        responses = use.models.get(event.request_model)
        if responses is None:
            if not self._take(len(event.request_model) + TOOL_OVERHEAD):
                use.open = True
                return
            responses = use.models[event.request_model] = []
        if response not in responses:
            use.open |= not self._add_name(responses, response)

    def add_credential(self, agent: str, credential: str) -> None:
        """Take a credential that the agent declared or used."""
        use = self._agent(agent)
        if use is None:
            return
        hashed = credential_hash(credential)
        if hashed not in use.credentials:
            use.open |= not self._add_name(use.credentials, hashed)

    def _agent(self, agent: str) -> AgentUse | None:
        use = self.agents.get(agent)
        if use is None and len(self.agents) < MAX_AGENTS and self._take(len(agent) + TOOL_OVERHEAD):
            use = self.agents[agent] = AgentUse()
        return use

    def _tool(self, use: AgentUse, name: str) -> ToolUse | None:
        if not self._take(len(name) + TOOL_OVERHEAD):
            use.open = True
            return None
        tool = use.tools[name] = ToolUse()
        return tool

    def _add_keys(self, tool: ToolUse, keys: list[str]) -> None:
        if tool.keyed_calls == 1:
            tool.required = [key for key in keys if self._take(len(key) + OVERHEAD)]
            tool.keys = list(tool.required)
            tool.open |= len(tool.keys) < len(keys)
            return
        if any(key not in keys for key in tool.required):
            tool.required = [key for key in tool.required if key in keys]
        for key in keys:
            if key not in tool.keys:
                tool.open |= not self._add_name(tool.keys, key)

    def _add_shape(self, tool: ToolUse, shape: str) -> None:
        hashed = shape_hash(shape)
        if hashed in tool.shapes:
            return
        if len(tool.shapes) >= MAX_SHAPES:
            tool.open = True
            return
        # A quarter of the room stays free for names.
        fits = len(shape) <= MAX_SHAPE_CHARS and self.room - len(shape) >= ROOM // 4
        tool.open |= not self._add_name(tool.shapes, shape if fits else hashed)

    def _add_name(self, names: list[str], name: str) -> bool:
        if not self._take(len(name) + OVERHEAD):
            return False
        names.append(name)
        return True

    def _take(self, characters: int) -> bool:
        if characters > self.room:
            return False
        self.room -= characters
        return True


def _count_items(tool: ToolUse, items: int, total: int | None) -> None:
    if items == 0:
        tool.empty_calls += 1
    if total is not None:
        tool.counted_calls += 1
        if items < total:
            tool.short_calls += 1
            if items == 0:
                tool.hollow_calls += 1


def shape_hash(shape: str) -> str:
    """What a shape is kept as when it is too long: `#` and 16 hex digits. A hash stays what it is."""
    return shape if shape.startswith("#") else f"#{xxh64_hexdigest(shape.encode())}"


def credential_hash(credential: str) -> str:
    """What is kept of a credential: 16 hex digits."""
    return xxh64_hexdigest(credential.encode())


class SessionSummary(
    msgspec.Struct, tag_field="schema", tag=SUMMARY_SCHEMA, omit_defaults=True, kw_only=True
):
    """What one agent did in a session that ended well; fields as in `schemas.window.AgentSessionSummary`.

    The totals are the session's. `source_*` say which event ended it: of one source partition they only grow,
    so what does not exceed the last one was there before.
    """

    tenant: str = "default"
    agent: str
    session: str
    start_ms: int
    end_ms: int
    steps: int = 0
    tokens: int = 0
    cost_usd_micro: int = 0
    cost_unknown_calls: int = 0
    use: AgentUse = msgspec.field(default_factory=AgentUse)
    source_topic: str
    source_partition: int
    source_offset: int
    source_index: int = 0
    source_ordinal: int = 0

    @property
    def key(self) -> str:
        """The record key on `agent.windows`: ``tenant/agent``."""
        return f"{self.tenant}/{self.agent}"

    def encode(self) -> bytes:
        """JSON of `schemas.window.AgentSessionSummary`."""
        return msgspec.json.encode(self, order="deterministic")


class Fact(msgspec.Struct, tag_field="schema", tag=FACT_SCHEMA, omit_defaults=True, kw_only=True):
    """Something that has to be seen beside what other sessions did; as `schemas.window.AgentFact`."""

    tenant: str = "default"
    kind: FactKind
    agent: str
    session: str
    time_ms: int
    event_id: str
    parent_session: str | None = None
    credential: str | None = None
    component: str | None = None
    name: str | None = None
    source_topic: str
    source_partition: int
    source_offset: int
    source_index: int = 0
    source_ordinal: int = 0

    @property
    def key(self) -> str:
        """The record key on `agent.windows`: the tenant, so that one partition sees all of the fleet; for a
        deployment ``tenant/agent``.
        """
        return f"{self.tenant}/{self.agent}" if self.kind == "deployment" else self.tenant

    def encode(self) -> bytes:
        """JSON of `schemas.window.AgentFact`."""
        return msgspec.json.encode(self, order="deterministic")
