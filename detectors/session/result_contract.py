"""result_contract: a tool that answers ok no longer returns what it used to.

Statistic: three, of successful results. Units: results, items. Source: R 21 (a report's columns changed), R
22 (hits and no documents; an expired token that empties every result).

Shape: key paths and types of a result against all that are known: of the agent's healthy sessions, else of
the session. What was only sometimes there, empty or null is no change. A tool is judged once a form never
seen is unlikely from it: by Good's estimate (1953), the share of forms seen once, one more for this one, is
at most `novelty`. Added keys alone are information, the rest is a warning.

Hollow: items are said to be there (`result_total`, or a `top_score`) and none came: a warning, critical at
the third in a row. Not judged where healthy sessions have it in one of fifty calls.

Empty: `run` results in a row without an item, each for other arguments, less likely than `chance` by
Laplace's rule of succession from the results before (and those of healthy sessions): a warning. Each is
reported once a session and source, 16 and each agent's first critical at most. Of more
than four sources a sample is followed.

>>> from detectors.testing import events, run
>>> call = dict(type="tool.call", tool="report", arguments_hash="a", status="ok")
>>> good = dict(call, result_shape="{day:string,sum:number}")
>>> run(ResultContract(), events([good] * 9 + [dict(call, result_shape="{day:string,total:number}")]))
[('warning', 'e9', 2.0)]
>>> run(ResultContract(), events([dict(call, result_items=0, result_total=7)] * 3))
[('warning', 'e0', 1.0), ('critical', 'e2', 3.0)]
>>> found = [dict(call, arguments_hash=f"{number}", result_items=int(number < 9)) for number in range(20)]
>>> run(ResultContract(), events(found))
[('warning', 'e13', 5.0)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from detectors.base import NOTHING, Beginning, SessionContext, name_hash
from detectors.bounded import tell
from detectors.profile import ToolProfile
from detectors.results import Results, change_of, results_of
from detectors.sequential.succession import novelty, run_chance
from schemas.detection import Detection, Severity
from schemas.event import Retrieval, ToolCall

MAX_TOLD: Final = 16


@dataclass(frozen=True, slots=True)
class ResultContract:
    """`novelty`, `chance` and `usual` are probabilities, `hollow` and `run` results in a row."""

    novelty: float = 0.1
    hollow: int = 3
    run: int = 5
    chance: float = 0.001
    usual: float = 0.02

    name: ClassVar[str] = "result_contract"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("tool.call", "retrieval")

    class State(msgspec.Struct, omit_defaults=True):
        """`told` is the hashes of what was reported, joined."""

        sources: list[Results] = []
        told: bytes = b""

    def update(
        self, state: State, event: ToolCall | Retrieval, context: SessionContext
    ) -> Iterable[Detection]:
        if event.type == "retrieval":
            said = int(event.top_score is not None and event.top_score > 0)
            return [*self._items(state, event.index, "", (event.documents, said), context)]
        if event.status != "ok" or (event.result_shape is None and event.result_items is None):
            return NOTHING
        found: list[Detection] = []
        if event.result_shape:
            found += self._shape(state, event.tool, event.result_shape, context)
        if event.result_items is not None:
            counts = event.result_items, event.result_total or 0
            found += self._items(state, event.tool, event.arguments_hash, counts, context)
        return found

    def _shape(self, state: State, name: str, shape: str, context: SessionContext) -> Iterable[Detection]:
        known = results_of(state.sources, name).forms_before(shape)
        if known.get(shape, 0) > 1:
            return
        tool = _tool(context, name)
        if tool is not None and tool.shapes:
            known = {} if tool.open else tool.shapes
        if not known or shape in known or novelty(known.values()) > self.novelty:
            return
        words, keys, breaks = change_of(known, shape)
        what = f"another form than all {sum(known.values())} results before: {words}"
        severity: Severity = "warning" if breaks else "info"
        yield from self._tell(state, "changed_keys", name, severity, keys, what, None, context)

    def _items(
        self, state: State, name: str, arguments: str, counts: tuple[int, int], context: SessionContext
    ) -> Iterable[Detection]:
        source, (items, total) = results_of(state.sources, name), counts
        if items:
            source.take_full()
            return
        tool = _tool(context, name) if arguments else None
        usual = tool is not None and tool.hollow_calls > self.usual * tool.counted_calls
        source.take_empty(arguments, context.here(), hollow=total > 0 and not usual)
        if source.hollow in {1, self.hollow}:
            severity: Severity = "critical" if source.hollow == self.hollow else "warning"
            what = f"no item although it says there are {total}" if arguments else "no document but a score"
            yield from self._tell(state, "hollow_results", name, severity, source.hollow, what, None, context)
        empty = source.empty + (tool.empty_calls if tool is not None else 0)
        full = source.full + (tool.calls - tool.empty_calls if tool is not None else 0)
        if source.run >= self.run and run_chance(empty, full, source.run) < self.chance:
            run, since = source.run, source.since
            what = f"no item {run} times in a row; {full} of {full + empty} results before had some"
            yield from self._tell(state, "empty_results", name, "warning", run, what, since, context)

    def _tell(
        self,
        state: State,
        metric: str,
        name: str,
        severity: Severity,
        observed: int,
        what: str,
        since: Beginning | None,
        context: SessionContext,
    ) -> Iterable[Detection]:
        digest = name_hash(f"{severity}/{metric}/{name}")
        told = tell(state.told, digest, MAX_TOLD, name_hash(context.agent) if severity == "critical" else b"")
        if not observed or told is None:
            return
        state.told = told
        yield context.detection(
            self,
            trigger=f"{metric}/{name}",
            severity=severity,
            metric=metric,
            observed=observed,
            sample_size=max(1, observed),
            since=since,
            summary=f"{name} gave {context.agent} {what}.",
        )


def _tool(context: SessionContext, name: str) -> ToolProfile | None:
    return None if (profile := context.profile) is None else profile.tools.get(name)
