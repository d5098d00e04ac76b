"""provider_outage: calls to one provider fail for the agents that use it, not for one of them.

Statistic: the mixture e-detector of `detectors.sequential.rate` on (calls, failures and throttled calls) of
all agents of a tenant to a provider, at the levels of `detectors.false_alarms`. Evidence counts only where
agents agree: at least two, and half of those that called lately, fail more often than chance allows
(`detectors.fleet.callers`), or the only one that uses the provider has everything failing. Unit: share of
calls. Source: R 30, R 46. Once for the fleet, as the agent `*`: it names the agents concerned and the
providers that still answer. Critical from three calls in ten on; info once the provider answers again.

>>> from detectors.testing import run_windows, window
>>> from detectors.windows import CallCounts, ProviderCalls
>>> def fleet(*turns):
...     made = [{"abc"[at]: CallCounts(10, errors) for at, errors in enumerate(turn)} for turn in turns]
...     failed = [ProviderCalls(30, sum(turn), 0, agents) for turn, agents in zip(turns, made)]
...     other = ProviderCalls(9, 0, 0, {"a": CallCounts(9)})
...     return [window(n, parts={}, providers={"p": each, "q": other}) for n, each in enumerate(failed)]
>>> found = run_windows(ProviderOutage(), fleet(*[(0, 0, 0)] * 30, *[(9, 8, 9)] * 10))
>>> [(one.severity, one.agent, one.metric) for one in found]
[('critical', '*', 'p')]
>>> print(found[0].summary)
p fails 87% of the calls of a, b, c, up from 0.1%: fail over to q (still answering).
>>> run_windows(ProviderOutage(), fleet(*[(0, 0, 0)] * 30, *[(10, 0, 0)] * 10))
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Final

import msgspec

from detectors.alarm import Raised
from detectors.base import Window, WindowContext
from detectors.fleet.callers import failing, listed, take
from detectors.fleet.providers import Used, place_of, working_without
from detectors.rate_watch import RateWatch
from detectors.sequential.rate import RateChange
from detectors.watch import Watch
from detectors.windows import ProviderCalls
from schemas.control import EVERY_AGENT
from schemas.detection import Detection

SEVERE: Final = 0.3


@dataclass(frozen=True, slots=True)
class ProviderOutage:
    """`watch` has the test and when a rise is critical."""

    watch: RateWatch = field(
        default_factory=lambda: RateWatch(
            Watch("provider_outage", lambda reading: reading.after >= SEVERE, recovery=50, seasonal=False),
            RateChange("rise", odds_ratios=(3.0, 10.0, 30.0, 100.0, 1_000.0), min_change=0.05),
        )
    )

    name: ClassVar[str] = "provider_outage"
    version: ClassVar[int] = 1

    class State(msgspec.Struct):
        """By provider."""

        providers: dict[str, Used] = {}

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Detection]:
        found: list[Detection] = []
        for name, calls in sorted(window.providers.items()):
            used = place_of(state.providers, name, window.start_ms)
            if used is not None and calls.calls:
                found += self._observe(name, used, calls, state, window, context)
        return found

    def _observe(
        self,
        name: str,
        used: Used,
        calls: ProviderCalls,
        state: State,
        window: Window,
        context: WindowContext,
    ) -> list[Detection]:
        for agent, counts in sorted(calls.agents.items()):
            take(used.callers, agent, counts, window.start_ms)
        alarmed = bool(used.series.severity)

        def concerned(before: float) -> list[str]:
            return failing(used.callers, before, window.start_ms, agreed=alarmed)

        raised = self.watch.observe(
            used.series,
            calls.calls,
            calls.errors,
            window.start_ms,
            among=len(state.providers),
            believed=lambda reading: alarmed or bool(concerned(reading.before)),
        )
        if raised is not None:
            working = working_without(name, state.providers, window.start_ms)
            return [self._detection(name, calls, raised, concerned(raised.reading.before), working, context)]
        if alarmed and not used.series.severity and not concerned(used.series.before):
            return [self._recovered(name, used, calls, context)]
        return []

    def _detection(
        self,
        name: str,
        calls: ProviderCalls,
        raised: Raised,
        concerned: list[str],
        working: list[str],
        context: WindowContext,
    ) -> Detection:
        reading = raised.reading
        why = "refuses, for overload or rate limits," if 2 * calls.throttled >= calls.errors else "fails"
        instead = f"fail over to {listed(working)} (still answering)" if working else "no other is in use"
        return context.detection(
            self,
            agent=EVERY_AGENT,
            trigger=f"{name}/{reading.began}",
            severity=raised.severity,
            metric=name,
            observed=reading.after,
            expected=reading.before,
            threshold=raised.level,
            score=reading.run_length,
            sample_size=reading.observations,
            since=context.since(reading.began),
            event_ids=(),
            summary=f"{name} {why} {reading.after:.0%} of the calls of {listed(concerned)}, up from "
            f"{reading.before:.1%}: {instead}.",
        )

    def _recovered(self, name: str, used: Used, calls: ProviderCalls, context: WindowContext) -> Detection:
        return context.detection(
            self,
            agent=EVERY_AGENT,
            trigger=f"{name}/{used.series.began}",
            severity="info",
            metric=name,
            observed=calls.errors / calls.calls,
            expected=used.series.before,
            sample_size=calls.calls,
            event_ids=(),
            summary=f"{name} answers again.",
        )
