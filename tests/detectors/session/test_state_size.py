"""A session that gives every detector something to remember costs what it may, however long it runs."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from detectors.base import Source
from detectors.registry import SESSION
from detectors.session_pipeline import SessionPipeline
from detectors.testing import event
from schemas.topics import EVENTS

PROCESS = "0b6f1f0e-6f0e-4b61-9a3e-2f6f0b7c1d55"
TOOLS = [f"tool-{number}" for number in range(60)]
NAMES = [f"argument_{number}" for number in range(6)]
START = {
    "type": "session.start",
    "goal": "g",
    "user": "u0",
    "declared_tools": TOOLS,
    "tool_schemas": {tool: {"required": NAMES[:2], "properties": NAMES} for tool in TOOLS},
    "allowed_effects": [f"kind-{number}.write" for number in range(60)],
    "budget": {"fan_out": {f"kind-{number}.send": 5 for number in range(60)}},
}


def _event(chance: random.Random, number: int) -> dict[str, Any]:
    some = chance.randint(0, 40)
    shape = "{" + ",".join(f"column_{some}_{place}:string" for place in range(12)) + "}"
    call = {
        "type": "tool.call",
        "tool": chance.choice(TOOLS),
        "arguments_hash": f"a{chance.randint(0, 9)}",
        "argument_keys": chance.sample(NAMES, 3),
        "result_shape": shape,
        "result_items": 0,
        "result_total": some,
        "status": chance.choice(["ok", "ok", "error"]),
        "effect": f"kind-{some}.{chance.choice(['write', 'send', 'drop'])}",
        "irreversible": chance.random() < 0.3,
    }
    read = {"type": "retrieval", "index": f"kind-{some}", "index_version": f"1.{some}", "documents": 1}
    model = {"type": "llm.call", "request_model": f"gpt-{some}", "response_model": f"gpt-{some + 1}-0613"}
    model |= {"input_tokens": 900, "output_tokens": 900, "status": "ok", "finish_reasons": ["length"]}
    said = {"type": "effect", "ref": f"{PROCESS}-{number - 1}", "confirmed": some % 3 == 0}
    owned = {"owner": f"u{some}", "as_of": f"2026-01-{1 + some % 28:02}T00:00:00Z"}
    return chance.choice([call, call, call, {**read, **owned}, model, said, {**START, "user": f"u{some}"}])


def test_a_session_that_tells_every_detector_something_stays_small() -> None:
    chance = random.Random(7)
    pipeline = SessionPipeline(0, SESSION)
    agents = [f"agent-{number}" for number in range(12)]
    sizes: list[int] = []
    for number in range(3_000):
        fields = START if number == 0 else _event(chance, number)
        shown = event(number, {**fields, "agent": chance.choice(agents), "event_id": f"{PROCESS}-{number}"})
        pipeline.process(shown, Source(EVENTS, 0, number))
        if number % 1_000 == 999:
            state = dict(pipeline.dirty())[b"s/default/session"]
            assert state is not None
            sizes.append(len(state))
            slots = msgspec.msgpack.decode(state)[4]
            assert max(len(msgspec.msgpack.encode(slot)) for slot in slots.values()) < 2_048
    assert max(sizes) <= 8 * 1024, sizes
    assert sizes[-1] <= 1.1 * sizes[0]
