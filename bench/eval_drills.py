"""Drills of behaviour over several seeds: how soon, how often, and what it looked like.

make eval-drills
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import Progress, track

from bench.eval.drill_plots import draw
from bench.eval.drill_runs import Played, run
from bench.eval.page import PAGE, Section, publish, share
from detectors.registry import BEHAVIOUR, FLEET_WINDOWS, SUMMARIES
from drills.catalogue import BY_NAME, DRILLS
from drills.script import Drill

OVER_BEHAVIOUR = {one.name for one in (*BEHAVIOUR, *SUMMARIES, *FLEET_WINDOWS)}
SEEDS = 10


def drills() -> list[Drill]:
    """Those that a detector of behaviour finds, by requirement."""
    chosen = [drill for drill in DRILLS if OVER_BEHAVIOUR.intersection(drill.detectors)]
    return sorted(chosen, key=lambda drill: drill.requirement)


def section(runs: dict[str, list[Played]]) -> Section:
    """The table and the pictures."""
    made = Section("Drills of behaviour: how soon, over seeds")
    made.say(
        "Each drill is played through the whole engine without a bus and without a gate, so that the failure "
        "goes on to its end. Counted are faulty acts up to the one that triggers the first detection by a "
        "detector that the drill names; early are detections before anything was wrong."
    )
    rows = []
    for name, played in runs.items():
        drill = BY_NAME[name]
        delays = sorted(one.result.events_to_detection or 0 for one in played if one.result.detected)
        early = sum(bool(one.result.false_alarms) for one in played)
        passed = sum(one.result.passed for one in played)
        found = {one.result.detector for one in played if one.result.detector}
        rows.append(
            (
                name,
                drill.requirement,
                ", ".join(sorted(found)) or "–",
                share(passed, len(played)),
                median(delays) if delays else None,
                delays[-1] if delays else None,
                drill.within_events,
                early,
            )
        )
        made.figures[name] = {"passed": passed, "seeds": len(played), "delays": delays, "early": early}
    made.table(("drill", "R", "found by", "passed", "median", "longest", "allowed", "early"), rows)
    made.say(*(f"![{name}](drills/{name}.png)" for name in runs))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays, draws and writes. 1 when a drill of that name is not one of behaviour."""
    parser = argparse.ArgumentParser(prog="python -m bench.eval_drills", description=__doc__)
    parser.add_argument("names", nargs="*", help="drills (default: all of behaviour)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many (default: {SEEDS})")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--figures", type=Path, default=None)
    options = parser.parse_args(arguments)
    chosen = [drill for drill in drills() if not options.names or drill.name in options.names]
    if not chosen or len(chosen) < len(set(options.names)):
        print(
            f"no such drill of behaviour; there are: {', '.join(d.name for d in drills())}", file=sys.stderr
        )
        return 1
    runs: dict[str, list[Played]] = {}
    console = Console(stderr=True)
    with ProcessPoolExecutor(options.jobs) as pool, Progress(console=console) as progress:
        task = progress.add_task("drills", total=len(chosen) * options.seeds)
        for drill in chosen:
            runs[drill.name] = []
            for one in pool.map(_run, repeat(drill.name), range(options.seeds)):
                runs[drill.name].append(one)
                progress.advance(task)
    for name, played in track(runs.items(), "pictures", console=console):
        draw(BY_NAME[name], played[0], options.page.parent / "drills" / f"{name}.png")
    publish("drills", {"drills": section(runs)}, page=options.page, figures=options.figures)
    print(options.page)
    return 0


def _run(name: str, seed: int) -> Played:
    return run(BY_NAME[name], seed)


if __name__ == "__main__":
    sys.exit(main())
