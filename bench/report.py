"""Results on disk: JSON for machines, a Markdown table for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

NAMES = {
    "watchkeeper": "Watchkeeper worker",
    "stock_faust": "same detectors, stock Faust agent",
    "quix": "same detectors, Quix Streams",
    "bare": "bare aiokafka + orjson",
    "bare_stdlib_json": "bare aiokafka + json of the standard library",
}


def write(folder: Path, name: str, result: dict[str, Any], markdown: str) -> None:
    """Writes `name`.json and `name`.md into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")
    (folder / f"{name}.md").write_text(markdown)


def throughput_markdown(result: dict[str, Any]) -> str:
    """The throughput result as a page."""
    fastest = max(side["events_per_second"] for side in result["sides"].values())
    lines = [
        "# Events per second",
        "",
        f"One run on {result['broker']}, one topic, one process a side. {_circumstances(result['machine'])}",
        "",
        "| | events | seconds | events/s | events per CPU second | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, side in result["sides"].items():
        bar = "█" * max(1, round(20 * side["events_per_second"] / fastest))
        lines.append(
            f"| {NAMES[name]} | {side['events']:,} | {side['seconds']:.1f} "
            f"| {side['events_per_second']:,.0f} | {side['events_per_cpu_second']:,.0f} | {bar} |"
        )
    lines += ["", "| bar | measured | wanted | |", "|---|---:|---:|---|"]
    for bar in result["bars"]:
        lines.append(
            f"| {bar['what']} | {bar['measured']:,} | {bar['bar']:,} | {'met' if bar['met'] else 'not met'} |"
        )
    found = ", ".join(f"{name} {count}" for name, count in sorted(result["detections"].items()))
    lines += [
        "",
        f"Every side found exactly the detections it had to: {found or 'no detector is registered'}.",
        "",
    ]
    return "\n".join(lines)


def _circumstances(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load_average_1m']} before, "
        f"{machine['system']}, Python {machine['python']}; {versions}. "
        f"Commit {machine['commit']}, {machine['date']}."
    )
