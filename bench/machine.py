"""Where and with what a figure was measured: without that it says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = (
    "faust-streaming",
    "aiokafka",
    "quixstreams",
    "confluent-kafka",
    "pydantic",
    "msgspec",
    "orjson",
    "xxhash",
)
REPOSITORY = Path(__file__).parent.parent
RESULTS = REPOSITORY / "bench" / "results"


def machine() -> dict[str, Any]:
    """Processor, cores, load, versions, commit and date."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD")
        + ("+changes" if _git("status", "--porcelain") else ""),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average_1m": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


def _git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else "unknown"
