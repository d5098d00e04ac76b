"""The main job to watch: an engine, a healthy fleet, two failures, and what becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from rich.live import Live

from cli.common import stdout
from cli.demo_view import DemoState, picture, summary
from cli.drill import engine
from drills import fleet
from drills.catalogue import BY_NAME
from drills.live import Actors, Bus, Watch, play
from drills.score import Score, Seen
from responders.channels.terminal import panel
from responders.incident import fold
from responders.pages.page import render
from responders.store import projections
from responders.store.event_store import Store
from responders.store.projections import IncidentView

_TENANT = "demo"
_FAILURES = ("clarification-loop", "silent-refusals")
_FRAMES_PER_SECOND = 6
_POLL_S = 0.25
_SETTLE_S = 10.0


async def run(*, seed: int, plain: bool) -> bool:
    """Plays the demo; whether everything was detected, paged once and contained."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="watchkeeper-demo-") as folder:
        data_dir = Path(folder)
        stdout.print("Starting the engine: broker, stream worker, responder …")
        async with engine(data_dir) as ready:
            stdout.print(f"Ready in {time.monotonic() - began:.1f} s at {ready['kafka']}, {ready['http']}")
            bus = Bus(str(ready["kafka"]), data_dir / "keys" / "trusted.json")
            show = _Show(Store.open(f"sqlite:///{data_dir / 'watchkeeper.db'}"))
            async with _shown(show.state, plain=plain):
                scores = await _play(bus, show, seed)
            show.close()
    results = [(score, show.pages(score.drill), BY_NAME[score.drill].cost_then_usd) for score in scores]
    stdout.print(summary(results, time.monotonic() - began))
    return all(score.passed and pages == 1 for score, pages, _ in results)


async def _play(bus: Bus, show: _Show, seed: int) -> list[Score]:
    """The fleet works, and beside it both failures run their course."""
    async with Watch(bus, on_seen=show.detected) as watch, Actors(bus, _TENANT) as actors:
        background = [
            asyncio.create_task(fleet.run(actors, seed=seed, on_done=show.state.acted)),
            asyncio.create_task(show.follow()),
        ]
        try:
            scores = await asyncio.gather(
                *(
                    play(
                        BY_NAME[name],
                        bus,
                        watch,
                        seed=seed,
                        run="demo",
                        tenant=_TENANT,
                        on_done=show.state.acted,
                    )
                    for name in _FAILURES
                )
            )
            await show.settled()
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
    return list(scores)


class _Show:
    """Turns what the engine says and stores into what is shown."""

    def __init__(self, store: Store) -> None:
        self.state = DemoState(_now_ms())
        self._store = store
        self._told: set[tuple[str, str]] = set()
        self._views: dict[str, IncidentView] = {}

    def close(self) -> None:
        """Lets go of the store."""
        self._store.close()

    def detected(self, tenant: str, seen: Seen) -> None:
        """A detection arrived on the bus."""
        if tenant == _TENANT:
            self.state.say(_now_ms(), "yellow", f"{seen.detector} ({seen.agent}): {seen.summary}")

    def pages(self, drill: str) -> int:
        """How often people were told the same of this failure: that it was there, or that it got worse."""
        detectors = BY_NAME[drill].detectors
        told = Counter(
            page.page
            for view in self._views.values()
            if any(found.detector in detectors for found in view.detections)
            for page in view.pages
            if page.state == "delivered"
        )
        return max(told.values(), default=0)

    async def follow(self) -> None:
        """Reads the incidents again and again."""
        while True:
            for view in await asyncio.to_thread(self._read):
                self._views[view.incident_id] = view
                self._tell(view)
            await asyncio.sleep(_POLL_S)

    async def settled(self) -> None:
        """Waits until every failure is paged and all containment is applied, but not for ever."""
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            open_ends = any(
                held.applied_at is None for view in self._views.values() for held in view.containments
            )
            if not open_ends and all(self.pages(name) for name in _FAILURES):
                return
            await asyncio.sleep(_POLL_S)

    def _read(self) -> list[IncidentView]:
        rows = projections.incidents(self._store)
        return [projections.incident(self._store, row.incident_id) for row in rows if row.tenant == _TENANT]

    def _tell(self, view: IncidentView) -> None:
        for page in view.pages:
            if page.state == "delivered" and self._new(view, f"page {page.page}"):
                self.state.say(_now_ms(), "bold magenta", f"page delivered: {page.headline}")
                self._paged(view, page.page)
        for held in view.containments:
            target, mode = held.target.key, held.wanted.mode
            if held.issued_at is not None and self._new(view, f"issued {target}"):
                self.state.say(_now_ms(), "bold red", f"ordered: {mode} {target}")
            if held.applied_at is not None and self._new(view, f"applied {target}"):
                took = (
                    ""
                    if held.seconds_to_applied is None
                    else f" after {held.seconds_to_applied * 1000:.0f} ms"
                )
                self.state.say(_now_ms(), "bold green", f"acknowledged{took}: {mode} {target}")
                self._mark(held.target.agent, "halted" if mode == "halt" else "stepped down")
                self._paged(view, view.pages[-1].page if view.pages else "opened")

    def _paged(self, view: IncidentView, page: str) -> None:
        folded = fold(view.log)
        if folded is not None:
            self.state.pages.append(panel(render(folded, page, len(view.detections))))

    def _mark(self, agent: str, state: str) -> None:
        row = self.state.agents.get(agent)
        if row is not None:
            row.state = state

    def _new(self, view: IncidentView, what: str) -> bool:
        key = (view.incident_id, what)
        if key in self._told:
            return False
        self._told.add(key)
        return True


@contextlib.asynccontextmanager
async def _shown(state: DemoState, *, plain: bool) -> AsyncIterator[None]:
    """The live picture, or where there is no terminal its lines as they come."""
    task = asyncio.create_task(_lines(state) if plain else _frames(state))
    try:
        yield
    finally:
        await asyncio.sleep(1.0 / _FRAMES_PER_SECOND)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _frames(state: DemoState) -> None:
    with Live(console=stdout, screen=True, auto_refresh=False) as live:
        while True:
            live.update(picture(state, _now_ms()), refresh=True)
            await asyncio.sleep(1.0 / _FRAMES_PER_SECOND)


async def _lines(state: DemoState) -> None:
    lines = pages = 0
    last_tick = 0.0
    while True:
        while lines < len(state.lines):
            elapsed_ms, style, text = state.lines[lines]
            stdout.print(f"{elapsed_ms / 1000:5.1f} s  {text}", style=style, highlight=False, markup=False)
            lines += 1
        while pages < len(state.pages):
            stdout.print(state.pages[pages])
            pages += 1
        if time.monotonic() - last_tick > 5:
            last_tick = time.monotonic()
            acts = sum(row.acts for row in state.agents.values())
            elapsed_s = (_now_ms() - state.started_ms) / 1000
            stdout.print(
                f"{elapsed_s:5.1f} s  {len(state.agents)} agents, {acts:,} acts, ${state.spent_usd:,.2f}",
                style="dim",
                highlight=False,
            )
        await asyncio.sleep(1.0 / _FRAMES_PER_SECOND)


def _now_ms() -> float:
    return time.time() * 1000
