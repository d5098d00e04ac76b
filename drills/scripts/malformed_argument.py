"""R 3: one bad argument at step 2 corrupted every later step."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call, tool_call

_SCHEMAS = {
    "find_customer": {"required": ["email"], "properties": ["email", "country"]},
    "quote_price": {
        "required": ["customer_id", "amount"],
        "properties": ["customer_id", "amount", "currency"],
    },
    "book_order": {"required": ["quote_id"], "properties": ["quote_id", "note"]},
    "send_invoice": {"required": ["order_id"], "properties": ["order_id"]},
}
_STEPS = ("book_order", "send_invoice")


def script(rng: random.Random, run: str) -> Script:
    """Step 2 gives the amount under a name the tool does not know; the tool takes it, and so on it goes."""
    agent, session = "Quoter", f"malformed-argument-{run}"
    yield Act(agent, session, "session.start", {"tool_schemas": _SCHEMAS}, gated=False)

    def call(tool: str, *keys: str, faulty: bool = True) -> Act:
        arguments, result = (f"{rng.getrandbits(64):016x}" for _ in range(2))
        return tool_call(agent, session, tool, arguments, result, argument_keys=list(keys), faulty=faulty)

    yield llm_call(agent, session)
    yield call("find_customer", "email", faulty=False)
    yield llm_call(agent, session)
    yield call("quote_price", "customer_id", "ammount")
    for tool in _STEPS:
        yield llm_call(agent, session, faulty=True)
        yield call(tool, *_SCHEMAS[tool]["required"])
    yield Act(agent, session, "session.end", {"outcome": "completed"}, gated=False, faulty=True)


DRILL = Drill(
    name="malformed-argument",
    requirement=3,
    story="One bad argument at step 2 corrupted every later step",
    detectors=("bad_arguments",),
    make=script,
    within_events=1,
    seconds=20.0,
)
