"""What a side is told, and how it measures itself: the same for all."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

_PROGRESS_EVERY = 5_000


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one side.

    `limits` is how many records of each partition to process; what comes after them is read and passed over.
    """

    bootstrap: str
    side: str
    limits: list[int]
    events_topic: str
    detections_topic: str
    windows_topic: str
    work_dir: str
    embedded: bool

    @property
    def group(self) -> str:
        return f"bench-{self.side}"

    @property
    def total(self) -> int:
        return sum(self.limits)

    def write(self, path: Path) -> None:
        path.write_bytes(orjson.dumps(asdict(self)))

    @classmethod
    def from_command_line(cls) -> Job:
        """The job in the file named by the only argument."""
        return cls(**orjson.loads(Path(sys.argv[1]).read_bytes()))


class Meter:
    """Times from the first record to the last; standard output carries progress, then the result."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._processed = 0
        self._passed_over = 0
        self._told = 0
        self._counted = 0
        self._began = (0.0, 0.0, 0.0)
        self._ended = (0.0, 0.0, 0.0)

    @property
    def done(self) -> bool:
        return self._processed >= self._total

    def begin(self) -> None:
        """A record, or a batch of them, is about to be processed."""
        if not self._processed:
            self._began = _clocks()

    def add(self, processed: int, passed_over: int = 0) -> None:
        """They were. Records passed over before the end count as work done: that favours who does so."""
        self._processed += processed
        self._passed_over += passed_over
        if self.done and not self._ended[0]:
            self._ended = _clocks()
            self._counted = self._processed + self._passed_over
        if self._processed - self._told >= _PROGRESS_EVERY:
            self._told = self._processed
            _tell({"processed": self._processed})

    def report(self, **more: Any) -> None:
        """The side's last line."""
        spans = (end - begin for begin, end in zip(self._began, self._ended, strict=True))
        seconds, cpu_seconds, waited_seconds = spans
        _tell(
            {
                "events": self._processed,
                "seconds": round(seconds, 4),
                "cpu_seconds": round(cpu_seconds, 4),
                "waited_seconds": round(waited_seconds, 4),
                "events_per_second": round(self._counted / seconds, 1),
                "events_per_second_unhindered": round(self._counted / (seconds - waited_seconds), 1),
                **more,
            }
        )


def _clocks() -> tuple[float, float, float]:
    """Wall clock, CPU time of all threads, and how long the main thread could have run but had no CPU."""
    return time.perf_counter(), time.process_time(), _waited()


def _waited() -> float:
    try:
        return int(Path("/proc/self/schedstat").read_bytes().split()[1]) / 1e9
    except FileNotFoundError:  # not Linux: unknown, taken as none
        return 0.0


def _tell(line: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(line).decode() + "\n")
    sys.stdout.flush()
