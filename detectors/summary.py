"""What a session stage tells the behaviour stage besides windows: what a healthy session did, and facts that
only mean something beside those of other sessions.

A `Lesson` grows inside the session's own state, so it is small: `ROOM` characters of names and shapes for all
agents together. A result shape there is no room for is kept as its hash; what does not fit at all is counted
as left out. It is made of the events alone, never of what is already known, so that a replay makes it again.

>>> from detectors.testing import event
>>> call = dict(type="tool.call", tool="search", arguments_hash="a", argument_keys=["q"], status="ok")
>>> lesson = Lesson()
>>> for number in range(3):
...     lesson.add_tool_call(event(number, dict(call, result_items=number)))
>>> [form] = lesson.use_of("agent").calls
>>> form.tool, form.keys, form.calls, form.empty_calls
('search', ['q'], 3, 1)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
from xxhash import xxh64_hexdigest

from schemas.window import FACT_SCHEMA, SUMMARY_SCHEMA

ROOM: Final = 1_216
MAX_SHAPE_CHARS: Final = 400
OVERHEAD: Final = 24

FactKind = Literal["spawn", "credential", "deployment"]


FormKey = tuple[str, str, tuple[str, ...] | None, str | None, str | None, str | None]
"""Agent, tool, argument keys, result shape, effect and scope."""


class CallForm(msgspec.Struct, omit_defaults=True):
    """One way a session called a tool and what came back; calls that failed are left out."""

    tool: str
    keys: list[str] | None = None
    shape: str | None = None
    effect: str | None = None
    scope: str | None = None
    calls: int = 0
    counted_calls: int = 0
    short_calls: int = 0
    hollow_calls: int = 0
    empty_calls: int = 0
    open: bool = False


class AgentUse(msgspec.Struct, omit_defaults=True):
    """What one agent of a session used. Credentials are hashes, in hex."""

    calls: list[CallForm] = []
    credentials: list[str] = []
    models: dict[str, list[str]] = {}
    input_tokens: int = 0
    open: bool = False


class Lesson(msgspec.Struct, omit_defaults=True):
    """What a session has shown so far.

    `forms` counts, by form, calls and of them those that said items and total, fewer items than the total, no
    item though the total is not 0, and no item. `open` are tools of agents of which something was left out.
    """

    room: int = ROOM
    forms: dict[FormKey, list[int]] = {}
    models: dict[tuple[str, str, str], int] = {}
    credentials: list[tuple[str, str]] = []
    input_tokens: dict[str, int] = {}
    open: list[tuple[str, str]] = []
    crowded: bool = False

    def add_tool_call(self, event: Any) -> None:
        """Take a `tool.call` that succeeded."""
        keys = event.argument_keys
        if keys is not None:
            keys = tuple(keys)
        form = (event.agent, event.tool, keys, event.result_shape, event.effect, event.scope)
        counts = self.forms.get(form)
        if counts is None:
            counts = self._open_form(form)
        counts[0] += 1
        items = event.result_items
        if items is not None:
            _count_items(counts, items, event.result_total)

    def add_llm_call(self, event: Any) -> None:
        """Take an `llm.call` that succeeded."""
        agent, tokens = event.agent, event.input_tokens
        most = self.input_tokens.get(agent)
        if most is None:
            if not self._take(len(agent)):
                return
            self.input_tokens[agent] = tokens
        elif tokens > most:
            self.input_tokens[agent] = tokens
        response = event.response_model
        if response is not None:
            answer = (agent, event.request_model, response)
            if answer not in self.models and self._take(sum(map(len, answer))):
                self.models[answer] = 1

    def add_credential(self, agent: str, credential: str) -> None:
        """Take a credential that the agent declared or used."""
        used = (agent, credential_hash(credential))
        if used not in self.credentials and self._take(len(agent) + 16):
            self.credentials.append(used)

    def agents(self) -> list[str]:
        """Those who did something, in the order they began to."""
        return list(
            dict.fromkeys(
                (*self.input_tokens, *(form[0] for form in self.forms), *(a for a, _ in self.credentials))
            )
        )

    def use_of(self, agent: str) -> AgentUse:
        """What one of the agents did."""
        models: dict[str, list[str]] = {}
        for who, request, response in self.models:
            if who == agent:
                models.setdefault(request, []).append(response)
        return AgentUse(
            calls=[
                _call_form(form, counts, open_=form[:2] in self.open)
                for form, counts in self.forms.items()
                if form[0] == agent
            ],
            credentials=[credential for who, credential in self.credentials if who == agent],
            models=models,
            input_tokens=self.input_tokens.get(agent, 0),
            open=self.crowded,
        )

    def _open_form(self, form: FormKey) -> list[int]:
        """The counts of a form that is new, in as much detail as there is room for."""
        form, characters = _measured(form)
        agent, tool, keys, shape, effect, scope = form
        if shape is not None and (len(shape) > MAX_SHAPE_CHARS or characters + len(shape) > self.room // 2):
            shape = shape_hash(shape)
            form = (agent, tool, keys, shape, effect, scope)
            if form in self.forms:
                return self.forms[form]
        if not self._take(characters + len(shape or "")):
            if (agent, tool) not in self.open and any(known[:2] == (agent, tool) for known in self.forms):
                self.open.append((agent, tool))
            return [0] * 5
        counts = self.forms[form] = [0] * 5
        return counts

    def _take(self, characters: int) -> bool:
        characters += OVERHEAD
        if characters > self.room:
            self.crowded = True
            return False
        self.room -= characters
        return True


@lru_cache(maxsize=4_096)
def _measured(form: FormKey) -> tuple[FormKey, int]:
    """The form, the same object for all sessions that have it, and its characters without the shape's."""
    agent, tool, keys, _, effect, scope = form
    characters = len(agent) + len(tool) + len(effect or "") + len(scope or "")
    return form, characters + sum(len(key) + 2 for key in keys or ())


def _call_form(form: FormKey, counts: list[int], *, open_: bool) -> CallForm:
    _, tool, keys, shape, effect, scope = form
    calls, counted_calls, short_calls, hollow_calls, empty_calls = counts
    return CallForm(
        tool=tool,
        keys=None if keys is None else list(keys),
        shape=shape,
        effect=effect,
        scope=scope,
        calls=calls,
        counted_calls=counted_calls,
        short_calls=short_calls,
        hollow_calls=hollow_calls,
        empty_calls=empty_calls,
        open=open_,
    )


def _count_items(counts: list[int], items: int, total: int | None) -> None:
    if items == 0:
        counts[4] += 1
    if total is not None:
        counts[1] += 1
        if items < total:
            counts[2] += 1
            if items == 0:
                counts[3] += 1


def shape_hash(shape: str) -> str:
    """What a shape is kept as when it is too long: `#` and 16 hex digits. A hash stays what it is."""
    return shape if shape.startswith("#") else f"#{xxh64_hexdigest(shape.encode())}"


def credential_hash(credential: str) -> str:
    """What is kept of a credential: 16 hex digits."""
    return xxh64_hexdigest(credential.encode())


class SessionSummary(
    msgspec.Struct, tag_field="schema", tag=SUMMARY_SCHEMA, omit_defaults=True, kw_only=True
):
    """What one agent did in a session that ended; fields as in `schemas.window.AgentSessionSummary`.

    The totals are the session's. `source_*` say which event ended it: of one source partition they only grow,
    so what does not exceed the last one was there before.
    """

    tenant: str
    agent: str
    session: str
    start_ms: int
    end_ms: int
    healthy: bool = True
    outcome: str = "completed"
    steps: int = 0
    llm_calls: int = 0
    tool_calls: int = 0
    errors: int = 0
    escalations: int = 0
    clarifications: int = 0
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

    tenant: str
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
