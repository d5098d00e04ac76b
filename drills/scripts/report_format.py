"""R 21: a daily report's columns changed, a week of garbage."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call, tool_call

_BEFORE = "{rows:[{customer:string,day:string,revenue:number,units:number}],total:number}"
_AFTER = "{rows:[{client:string,day:string,revenue:string,units:number}],total:number}"
_GOOD_DAYS = 12
_BAD_DAYS = 7


def script(rng: random.Random, run: str) -> Script:
    """Twelve good days; then one column has another name and one another type, and for a week nobody sees."""
    agent, session = "Reporter", f"report-format-{run}"
    yield Act(agent, session, "session.start", {"declared_tools": ["daily_report"]}, gated=False)
    for day in range(_GOOD_DAYS + _BAD_DAYS):
        changed = day >= _GOOD_DAYS
        rows = rng.randint(40, 60)
        arguments, result = (f"{rng.getrandbits(64):016x}" for _ in range(2))
        yield tool_call(
            agent,
            session,
            "daily_report",
            arguments,
            result,
            argument_keys=["day"],
            result_shape=_AFTER if changed else _BEFORE,
            result_items=rows,
            result_total=rows,
            faulty=changed,
        )
        yield llm_call(agent, session, faulty=changed)


DRILL = Drill(
    name="report-format",
    requirement=21,
    story="The columns of a daily report changed, and a week of reports was garbage",
    detectors=("result_contract",),
    make=script,
    within_events=1,
    seconds=30.0,
)
