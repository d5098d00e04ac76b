"""What a session of each kind of healthy agent is like, from its start to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from bench.eval.fleet_agents import HOUR_MS
from bench.eval.fleet_writer import Desk, Session, Tool

ORDERS: Final = Tool(
    "orders.get", ("order",), ("fields",), "{items:[{id:int,state:string}]}", items=1, empty=0.05
)
TICKETS: Final = Tool(
    "tickets.update", ("ticket", "state"), ("note",), effect="ticket.update", confirmed=True
)
REFUND: Final = Tool(
    "refunds.create", ("order", "sum"), effect="refund.create", irreversible=True, confirmed=True
)
MAIL: Final = Tool("email.send", ("to", "template"), ("subject",), effect="email.send", confirmed=True)
READ: Final = Tool("read_file", ("path",), ("offset", "limit"), "{text:string}", median_ms=30)
GREP: Final = Tool("grep", ("pattern",), ("path",), "{items:[{line:int,path:string}]}", items=6, empty=0.15)
EDIT: Final = Tool("edit_file", ("path", "new", "old"), effect="file.write", median_ms=40)
TESTS: Final = Tool("run_tests", ("target",), shape="{failed:int,passed:int}", median_ms=9_000)
COMMIT: Final = Tool("git_commit", ("message",), effect="git.commit", median_ms=150)
WRITE: Final = Tool(
    "records.write", ("fields", "record"), effect="records.write", confirmed=True, median_ms=60
)
SEARCH: Final = Tool("search", ("query",), ("limit", "since"), "{items:[{title:string,url:string}]}", items=7,
                     empty=0.08, median_ms=600)  # fmt: skip
FETCH: Final = Tool("fetch", ("url",), shape="{text:string}", median_ms=700)
QUERY: Final = Tool("report.query", ("sql",), shape="{items:[{day:string,n:int,sum:number}]}", items=30,
                    median_ms=1_500)  # fmt: skip
REPORT: Final = Tool("report.write", ("body", "title"), effect="report.write", confirmed=True)


def support(desk: Desk, start_ms: float) -> Session:
    """A customer's chat: turns of retrieval, look-ups and answers, until served, handed on or gone."""
    agent = desk.agent
    talk = Session(desk, start_ms, (ORDERS, TICKETS, REFUND, MAIL), "answer-customer",
                   budget={"tokens": 250_000, "steps": 60, "cost_usd": 5.0})  # fmt: skip
    outcome, context, refused, ref = "completed", 900, False, ""
    for turn in range(1 + min(int(desk.rng.geometric(0.4)), 10)):
        if turn:
            talk.pause(float(desk.rng.lognormal(np.log(35), 0.8)))
        _look_up(talk)
        ref, refused = talk.llm(context=context)
        if talk.chance(0.45) and not talk.failed:
            talk.tool(ORDERS)
            ref, refused = talk.llm(context=context + 400)
        if talk.failed:
            break
        if talk.chance(agent.clarification):
            talk.add("message", to_agent="user", intent="clarification")
        else:
            talk.add("message", to_agent="user", intent="answer", content_hash=f"{ref}-text")
        context += int(desk.rng.integers(250, 700))
        if talk.chance(agent.abandonment / 2):
            outcome = "abandoned"
            break
    rates = float(desk.weather.rates[desk.hour(talk.clock_ms)])
    if outcome == "completed" and talk.chance(agent.escalation * (0.7 + 0.3 * rates)):
        talk.add("escalation", to="human", reason="customer asked")
        outcome = "escalated"
    elif outcome == "completed" and refused and talk.chance(0.5):
        outcome = "refused"
    elif outcome == "completed":
        _settle(talk)
        outcome = "failed" if talk.chance(0.015) else outcome
    talk.judge(("groundedness", "helpfulness"), 0.1, ref)
    talk.feedback()
    talk.end(outcome)
    return talk


def _look_up(talk: Session) -> None:
    """In the handbook, and in what is remembered of the customer."""
    if talk.chance(0.6):
        score, documents = float(talk.desk.rng.beta(12, 4)), int(talk.desk.rng.integers(1, 9))
        talk.add("retrieval", index="handbook", index_version="1.4", documents=documents, top_score=score)
    if talk.chance(0.15):
        then = datetime.fromtimestamp(talk.clock_ms / 1_000, UTC).replace(minute=0, second=0, microsecond=0)
        talk.add("retrieval", index="memory", documents=1, owner=talk.user, as_of=then, top_score=0.9)


def _settle(talk: Session) -> None:
    """What was agreed is done; money is paid back when a person has said so."""
    if talk.chance(0.04):
        talk.pause(120)
        talk.tool(REFUND, approval=f"lead-{talk.name}")
    if talk.chance(0.3):
        talk.tool(TICKETS)
    if talk.chance(0.2):
        talk.tool(MAIL)


def coding(desk: Desk, start_ms: float) -> Session:
    """A change to a repository: read, edit, test until green; the context grows and is cut at a limit."""
    work = Session(desk, start_ms, (READ, GREP, EDIT, TESTS, COMMIT), "change-code",
                   budget={"tokens": 8_000_000, "steps": 200, "cost_usd": 60.0})  # fmt: skip
    context, ref, target = 9_000, "", work.name
    if work.chance(0.08):
        work.others += [_explore(desk, work, number) for number in range(int(desk.rng.integers(1, 4)))]
    for _ in range(min(1 + int(desk.rng.geometric(0.3)), 12)):
        for tool in (READ, GREP, READ)[: int(desk.rng.integers(1, 4))]:
            ref, _ = work.llm(size=0.7, context=context, cached=int(0.8 * context))
            work.tool(tool)
            context += int(desk.rng.lognormal(np.log(1_100), 0.7))
        ref, _ = work.llm(size=1.6, context=context, cached=int(0.8 * context))
        work.tool(EDIT)
        context = _test(work, context, target)
        if context > 110_000:
            context = 25_000
        if work.failed:
            break
    work.tool(COMMIT)
    work.judge(("review",), 0.15, ref)
    work.end("completed" if work.chance(0.93) else "abandoned")
    return work


def _test(work: Session, context: int, target: str) -> int:
    """The same tests after every edit: they are red, one more edit, and they are green, or red again."""
    while work.chance(0.45) and context < 120_000:
        work.llm(size=0.4, context=context, cached=int(0.8 * context))
        work.clock_ms += float(work.desk.rng.lognormal(np.log(9_000), 0.5))
        work.add("tool.call", tool=TESTS.name, arguments_hash=target, argument_keys=["target"],
                 status="error", error_type="exit_1", duration_ms=9_000.0,
                 credential=work.credential)  # fmt: skip
        context += int(work.desk.rng.lognormal(np.log(1_500), 0.6))
        work.llm(size=1.2, context=context, cached=int(0.8 * context))
        work.tool(EDIT)
    work.llm(size=0.4, context=context, cached=int(0.8 * context))
    work.tool(TESTS, arguments=target)
    return context + 400


def _explore(desk: Desk, parent: Session, number: int) -> Session:
    """A helper that reads for the session which started it."""
    read = Session(desk, parent.clock_ms + 3_000 * number, (READ, GREP), "explore-code", parent=parent.name,
                   budget={"tokens": 500_000, "steps": 40})  # fmt: skip
    for turn in range(int(desk.rng.integers(3, 9))):
        read.llm(size=0.5, context=4_000 + 900 * turn)
        read.tool((GREP, READ)[turn % 2])
    read.end("completed")
    return read


def extraction(desk: Desk, start_ms: float) -> Session:
    """A document into a record, with how sure the model is; a second pass where it is not."""
    page = Session(desk, start_ms, (WRITE,), "extract-record", budget={"tokens": 60_000, "steps": 12})
    size = float(desk.rng.lognormal(0, 0.5))
    context = int(1_200 * size)
    confidence = round(float(desk.rng.beta(9, 1.2)), 3)
    ref, refused = page.llm(size=size, context=context, confidence=confidence)
    if confidence < 0.7 and not page.failed:
        confidence = round(float(desk.rng.beta(9, 1.5)), 3)
        ref, refused = page.llm(size=size, context=context + 300, confidence=confidence)
    if refused or page.failed or not page.tool(WRITE):
        page.end("refused" if refused else "failed")
        return page
    page.grade("field_accuracy", confidence, 0.08, ref)
    page.end("completed" if page.chance(0.985) else "failed")
    return page


def pair(desk: Desk, start_ms: float) -> Session:
    """A planner that delegates and a worker that searches; now and then the worker has to ask."""
    planner, worker = desk.agent.names
    work = Session(desk, start_ms, (SEARCH, FETCH), "research",
                   budget={"tokens": 600_000, "steps": 90, "cost_usd": 10.0})  # fmt: skip
    context, ref = 1_500, ""
    for turn in range(1 + min(int(desk.rng.geometric(0.45)), 5)):
        work.llm(context=context)
        work.add("message", to_agent=worker, intent="delegate", content_hash=f"{work.name}-task{turn}")
        work.speaker = worker
        if work.chance(desk.agent.clarification):
            work.add("message", to_agent=planner, intent="clarification")
            work.speaker = planner
            work.llm(size=0.4, context=context)
            work.add("message", to_agent=worker, intent="answer", content_hash=f"{work.name}-said{turn}")
            work.speaker = worker
        for _ in range(int(desk.rng.integers(1, 5))):
            work.llm(size=0.4, context=1_000)
            work.tool(SEARCH if work.chance(0.5) else FETCH)
        work.llm(context=3_000)
        work.add("message", to_agent=planner, intent="result", content_hash=f"{work.name}-result{turn}")
        work.speaker = planner
        context += int(desk.rng.integers(400, 1_500))
    ref, refused = work.llm(size=1.5, context=context)
    work.judge(("groundedness", "completeness"), 0.2, ref)
    work.feedback()
    work.end("refused" if refused else "completed" if work.chance(0.95) else "failed")
    return work


def router(desk: Desk, start_ms: float) -> Session:
    """One request to whom it concerns; to a person where the model is not sure."""
    request = Session(desk, start_ms, (), "route-request", budget={"tokens": 10_000, "steps": 4})
    hour = float(desk.weather.rates[desk.hour(start_ms)])
    confidence = round(float(desk.rng.beta(9, 1.1 + 0.3 * hour)), 3)
    ref, refused = request.llm(context=450, confidence=confidence)
    if confidence < 0.65 or refused:
        request.add("escalation", to="human" if request.chance(0.7) else "queue", reason="not sure")
        outcome = "escalated"
    else:
        request.add(
            "message", to_agent=f"team-{request.topic}", intent="delegate", content_hash=f"{ref}-text"
        )
        outcome = "completed"
    request.grade("route", confidence, 0.05, ref)
    request.end(outcome)
    return request


def batch(desk: Desk, start_ms: float) -> Session:
    """A report of the night: queries, a summary, and the report filed."""
    job = Session(desk, start_ms, (QUERY, REPORT), "nightly-report", budget={"tokens": 200_000, "steps": 20})
    for _ in range(int(desk.rng.integers(2, 5))):
        job.llm(size=0.2, context=1_800)
        job.tool(QUERY)
    ref, _ = job.llm(context=5_000)
    job.tool(REPORT)
    job.judge(("groundedness",), 0.3, ref)
    job.end("completed")
    return job


def canaries(desk: Desk, start_ms: float) -> list[dict[str, Any]]:
    """Six questions of known answer; they pass but for a flaky one."""
    run = Session(desk, start_ms, (), "canary")
    for number in range(6):
        run.pause(1.5)
        passed = run.chance(0.95 if number == 5 else 0.997)
        run.add("canary", canary=f"known-{number}", passed=passed)
    run.end("completed")
    return run.events


def deployed(desk: Desk) -> list[dict[str, Any]]:
    """The notices of the agent's new prompt versions."""
    agent = desk.agent
    made = []
    for deployed_ms, version, _ in agent.deployments:
        desk.events += 1
        made.append(
            {
                "type": "deployment",
                "event_id": f"{agent.name}-e{desk.events}",
                "time": deployed_ms / 1_000,
                "tenant": agent.tenant,
                "agent": agent.name,
                "session": f"{agent.name}-deploy-{version}",
                "component": "prompt",
                "name": f"{agent.name}-prompt",
                "from_version": f"v{version - 1}",
                "to_version": f"v{version}",
            }
        )
    return made


PLAYS: Final[Mapping[str, Callable[[Desk, float], Session]]] = {
    play.__name__: play for play in (support, coding, extraction, pair, router, batch)
}
CANARIES_EVERY_MS: Final = 6 * HOUR_MS
