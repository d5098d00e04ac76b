"""Whether alternation of two agents is found in real runs, and how well it tells a stall."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.eval.page import Section, ratio, share
from bench.eval.runs import Run, detect, event_number, load
from bench.traces import with_turns
from detectors.session.ping_pong import PingPong

STALLED_ENTRIES = 3
LENGTHS = (8, 12, 16, 20, 30)


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one run, in messages: the longest alternation of two agents; where the orchestrator's own ledger had
    said three times running that it loops or gets nowhere; where `ping_pong` was told.
    """

    longest: int
    stalled_at: int | None
    found_at: int | None


def section(data: Path) -> Section:
    """Tables of alternations found by length, and of stalls found."""
    page = Section("Alternation of two agents (`whowhen_handcrafted`)")
    runs = load(data / "traces" / "whowhen_handcrafted.jsonl.gz")
    found = detect(runs)
    measured: list[Measured] = []
    for run in runs:
        numbers = [event_number(each) for each in found[run.session] if each.detector == "ping_pong"]
        measured.append(_measure(run, min(numbers, default=None)))
    page.say(
        f"{len(runs)} runs, all failed. An alternation is read off the turns, without content: A speaks "
        f"to B, B to A, and so on, no third agent between. `ping_pong` warns at {PingPong().turns} turns "
        "(an exchange of clarifications, of which there is none here, is critical at 8 messages)."
    )
    rows = []
    for length in LENGTHS:
        long_enough = [one for one in measured if one.longest >= length]
        hits = sum(one.found_at is not None for one in long_enough)
        rows.append((f"{length} or more", len(long_enough), hits, share(hits, len(long_enough))))
    page.table(("longest alternation, turns", "runs", "found", "recall"), rows)
    page.say(
        "From its own threshold on the detector finds what it counts, so this table says only that "
        "nothing breaks the count; whether it is worth counting, the next one says."
    )
    _stalls(page, measured)
    return page


def _stalls(page: Section, measured: list[Measured]) -> None:
    """How far an alternation is a stall, by a label that the engine never sees."""
    stalled = [one for one in measured if one.stalled_at is not None]
    told = [one for one in measured if one.found_at is not None]
    both = [one for one in stalled if one.found_at is not None]
    delays = [
        one.found_at - one.stalled_at
        for one in both
        if one.found_at is not None and one.stalled_at is not None
    ]
    page.say(
        "Whether an alternation is a stall, the runs say themselves: the orchestrator keeps a ledger, "
        "in which it notes at each round whether it loops and whether progress is being made. Stalled "
        f"is a run with {STALLED_ENTRIES} bad entries in a row; the delay is counted in messages from "
        "the third (below nought: told before the orchestrator knew)."
    )
    page.table(
        ("stalled runs", "found", "recall", "told in all", "precision", "median delay", "range"),
        [
            (
                len(stalled),
                len(both),
                share(len(both), len(stalled)),
                len(told),
                share(len(both), len(told)),
                f"{median(delays):+g}" if delays else "–",
                f"{min(delays):+d} to {max(delays):+d}" if delays else "–",
            )
        ],
    )
    turns = PingPong().turns
    missed = [one for one in stalled if one.found_at is None]
    page.say(
        "So an alternation is a reason to look and no reason to stop an agent: it stays a warning. Of "
        f"the {len(missed)} stalls that are missed, {sum(one.longest < turns for one in missed)} never "
        f"had two agents alternate for {turns} turns; the words are never quite the same, and without "
        "content that is all there is to see."
    )
    page.figures.update(
        runs=len(measured),
        found_of_16_or_more=ratio(
            sum(one.found_at is not None for one in measured if one.longest >= 16),
            sum(one.longest >= 16 for one in measured),
        ),
        stalled=len(stalled),
        recall=ratio(len(both), len(stalled)),
        precision=ratio(len(both), len(told)),
        median_delay_messages=median(delays) if delays else None,
    )


def _measure(run: Run, found: int | None) -> Measured:
    turns: list[tuple[str, str]] = []
    longest = streak = bad = 0
    stalled_at: int | None = None
    for line in with_turns(run.lines):
        ledger = line.get("label", {}).get("ledger")
        if ledger is not None:
            stuck = ledger.get("is_in_loop") or ledger.get("is_progress_being_made") is False
            bad = bad + 1 if stuck else 0
            if bad >= STALLED_ENTRIES and stalled_at is None:
                stalled_at = len(turns)
        if "turn_to" in line:
            turn = (line["agent"], line["turn_to"])
            streak = streak + 1 if turns and turn == turns[-1][::-1] else 1
            turns.append(turn)
            longest = max(longest, streak)
    spoken = None
    if found is not None:
        spoken = sum(
            event["type"] == "message" and event["intent"] != "request" for event in run.events[: found + 1]
        )
    return Measured(longest, stalled_at, spoken)
