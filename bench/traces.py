"""Recorded traces of real agents (`data/traces`) as agent events: hashes, lengths and shapes, no content, no
labels.

What a trace does not say is made up the same way each time: an event every two seconds from a fixed start,
four characters a token, the sender of a message for its receiver. Sessions are started with the tools they
declare and ended as completed; whether a run was good is a label, and labels stay behind. A call whose
arguments were not recorded is taken for a call of its own: that nothing is known of two calls does not make
them equal. Whether arguments are foreign is found out as the client does it. In `whowhen`, whose agents speak
in turn, the end of a turn is a message to the agent whose turn comes next.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from watchkeeper_client.events import FOREIGN_ASKED, FOREIGN_VALUES, FOREIGN_WRITES
from watchkeeper_client.fingerprint import argument_keys, arguments_hash, content_hash, fingerprint
from watchkeeper_client.foreign import Foreign

START_MS: Final = 1_780_000_000_000
STEP_MS: Final = 2_000
CHARS_PER_TOKEN: Final = 4
MODEL: Final = "unknown"
TURN_TAKING: Final = {"whowhen"}
_NEXT_SPEAKER: Final = re.compile(r"Next speaker \w+")
_ERROR_CLASS: Final = re.compile(r"[A-Za-z_.]*(?:Error|Exception|Timeout)\b")

Event = dict[str, Any]


def events(path: Path | str) -> Iterator[Event]:
    """The agent events of a trace file, as JSON objects of `agent.event/1`, session after session, in time
    order.

    Raises `OSError` when the file cannot be read and `ValueError` when a line is not JSON.
    """
    clock_ms = START_MS
    trace: list[dict[str, Any]] = []
    for line in lines(Path(path)):
        if trace and line["trace_id"] != trace[0]["trace_id"]:
            yield from _session(trace, clock_ms)
            clock_ms += STEP_MS * (len(trace) + 2)
            trace = []
        trace.append(line)
    if trace:
        yield from _session(trace, clock_ms)


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a trace file as they were recorded."""
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as file
    ):
        for line in file:
            yield json.loads(line)


def with_turns(trace: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines; the last of each agent's turn with `turn_to`, and `said`: the last it said to the next."""
    turned: list[dict[str, Any]] = []
    said = ""
    for line, after in zip(trace, [*trace[1:], {}], strict=True):
        speaks = line["kind"] in {"llm", "tool"}
        text = line.get("content", "")
        if speaks and not _NEXT_SPEAKER.fullmatch(text.strip()):
            said = text
        turns = speaks and after.get("kind") in {"llm", "tool"} and after.get("agent") != line.get("agent")
        turned.append({**line, "turn_to": after["agent"], "said": said} if turns else line)
    return turned


def _session(trace: list[dict[str, Any]], clock_ms: int) -> Iterator[Event]:
    if trace[0].get("source") in TURN_TAKING:
        trace = with_turns(trace)
    session = trace[0]["trace_id"]
    agent = next(
        (line["agent"] for line in trace if line["kind"] in {"llm", "tool"}), trace[0].get("agent", "agent")
    )
    tools = next(
        (line["label"]["declared_tools"] for line in trace if "declared_tools" in line.get("label", {})), None
    )
    bodies: list[Event] = [{"type": "session.start", "agent": agent, "declared_tools": tools}]
    watched = Foreign(key=0)
    for line in trace:
        bodies += _events(line, agent, watched)
        if line.get("turn_to"):
            bodies.append(_turn(line, agent))
    bodies.append({"type": "session.end", "agent": agent, "outcome": "completed"})
    for number, body in enumerate(bodies):
        yield {
            "schema": "agent.event/1",
            "event_id": f"{session}#{number}",
            "time": datetime.fromtimestamp((clock_ms + STEP_MS * number) / 1000, tz=UTC).isoformat(),
            "session": session,
            **{name: value for name, value in body.items() if value is not None},
        }


def _events(line: dict[str, Any], agent: str, watched: Foreign) -> list[Event]:
    who = line.get("agent") or agent
    text = line.get("content", "")
    match line["kind"]:
        case "llm":
            return [_llm_call(line, who)]
        case "tool":
            return [_tool_call(line, who, watched)]
        case "message" if who == "system":
            watched.request(text, asks=False)
        case "message" if who != agent:
            watched.request(text)
            return [_message(who, agent, "request", text)]
    return []


def _turn(line: dict[str, Any], first: str) -> Event:
    """The first agent gives the others their tasks, and they report to it."""
    who = line["agent"]
    return _message(who, line["turn_to"], "delegate" if who == first else "result", line["said"])


def _message(who: str, to_agent: str, intent: str, text: str) -> Event:
    return {
        "type": "message",
        "agent": who,
        "to_agent": to_agent,
        "intent": intent,
        "content_hash": content_hash(text),
    }


def _llm_call(line: dict[str, Any], who: str) -> Event:
    text = line.get("content") or ""
    reason = line.get("finish_reason")
    latency_s = line.get("latency_s")
    return {
        "type": "llm.call",
        "agent": who,
        "request_model": MODEL,
        "input_tokens": int(line.get("tokens_in", 0)),
        "output_tokens": int(line.get("tokens_out", len(text) // CHARS_PER_TOKEN)),
        "cost_usd": line.get("cost"),
        "duration_ms": None if latency_s is None else latency_s * 1000,
        "finish_reasons": None if reason is None else [reason],
        "output_chars": len(text),
        "output_hash": content_hash(text) if text else None,
        "status": "error" if line.get("error") else "ok",
    }


def _tool_call(line: dict[str, Any], who: str, watched: Foreign) -> Event:
    arguments = line.get("args")
    tool = line.get("tool") or who
    known = arguments is not None
    event: Event = {
        "type": "tool.call",
        "agent": who,
        "tool": tool,
        "arguments_hash": arguments_hash(arguments) if known else content_hash(f"unknown {line['step']}"),
        "argument_keys": argument_keys(arguments) if known else None,
        "status": "error" if line.get("error") else "ok",
        **_steered(tool, arguments, watched),
    }
    result = line.get("result", line.get("content"))
    watched.result(result)
    if line.get("error"):
        named = _ERROR_CLASS.search(str(line["error"]))
        event["error_type"] = named.group()[:256] if named else "error"
    elif result is not None:
        print_ = fingerprint(result)
        event |= {
            "result_hash": print_.result_hash,
            "result_shape": print_.result_shape[:8192],
            "result_items": print_.result_items,
            "result_total": print_.result_total,
        }
    return event


def _steered(tool: str, arguments: object, watched: Foreign) -> Event:
    verdict = watched.judge(tool, arguments)
    if not verdict.foreign:
        return {"foreign_arguments": False}
    told = {
        FOREIGN_VALUES: verdict.values,
        FOREIGN_ASKED: verdict.asked,
        FOREIGN_WRITES: verdict.writes,
    }
    return {"foreign_arguments": True, "attributes": told}
