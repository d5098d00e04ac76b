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
        "| | events | seconds | of them without a CPU | events/s | events/s unhindered | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, side in result["sides"].items():
        bar = "█" * max(1, round(20 * side["events_per_second"] / fastest))
        lines.append(
            f"| {NAMES[name]} | {side['events']:,} | {side['seconds']:.1f} | {side['waited_seconds']:.1f} "
            f"| {side['events_per_second']:,.0f} | {side['events_per_second_unhindered']:,.0f} | {bar} |"
        )
    lines += [
        "",
        "Unhindered: without the time in which a side was ready to run and other work had the CPUs.",
        "",
        "| bar | wanted | measured | | unhindered | |",
        "|---|---:|---:|---|---:|---|",
    ]
    for bar, unhindered in zip(result["bars"], result["bars_unhindered"], strict=True):
        lines.append(f"| {bar['what']} | {bar['bar']:,} | {_verdict(bar)} | {_verdict(unhindered)} |")
    found = ", ".join(f"{name} {count}" for name, count in sorted(result["detections"].items()))
    lines += [
        "",
        f"Every side found exactly the detections it had to: {found or 'no detector is registered'}.",
        "",
    ]
    return "\n".join(lines)


def latency_markdown(result: dict[str, Any]) -> str:
    """The latency result as a page."""
    return "\n".join(
        [
            "# From an event to its signed command",
            "",
            f"`watchkeeper up` on {result['broker']}, {result['events_per_second']:,} events/s of load, "
            f"{result['probes']} probes. {_circumstances(result['machine'])}",
            "",
            "| detection p50 | command p50 | p90 | p99 | longest | bar for p99 | |",
            "|---:|---:|---:|---:|---:|---:|---|",
            f"| {result['detection_p50_ms']} ms | {result['p50_ms']} ms | {result['p90_ms']} ms "
            f"| {result['p99_ms']} ms "
            f"| {result['p100_ms']} ms "
            f"| {result['bar_p99_ms']:g} ms | {'met' if result['met'] else 'not met'} |",
            "",
        ]
    )


def global_stop_markdown(result: dict[str, Any]) -> str:
    """The result of the global stop as a page."""
    rounds = result["rounds"]
    verdict, unhindered = ("met" if result[name] else "not met" for name in ("met", "unhindered_met"))
    lines = [
        "# Global stop",
        "",
        f"{result['agents']:,} subscribed agents in {result['processes']} processes, `watchkeeper up` on "
        f"{result['broker']}, {len(rounds)} times `watchkeeper halt --all`: seconds from the order in the "
        f"store to an agent's gate denying. {_circumstances(result['machine'])}",
        "",
        "| | p50 | p90 | p99 | longest |",
        "|---|---:|---:|---:|---:|",
    ]
    shown = {"": "gate denies", "unhindered_": "gate denies, unhindered", "ack_": "acknowledged on the bus"}
    for name, what in shown.items():
        figures = " | ".join(f"{result[f'{name}{share}_s']:.3f}" for share in ("p50", "p90", "p99", "max"))
        lines.append(f"| {what} | {figures} |")
    entered = ", ".join(f"{each['entered_to_issued_s']:.2f}" for each in rounds)
    lines += [
        "",
        f"Bars: p99 under {result['bar_p99_s']:g} s, all under {result['bar_max_s']:g} s: {verdict}, "
        f"unhindered {unhindered}. Every agent denied and acknowledged in each round. Unhindered: without "
        "the time in which the process of an agent was ready to run and other work had the CPUs. "
        f"The command itself took {entered} s from Enter to the store.",
        "",
    ]
    return "\n".join(lines)


def _verdict(bar: dict[str, Any]) -> str:
    return f"{bar['measured']:,} | {'met' if bar['met'] else 'not met'}"


def _circumstances(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load_average_1m']} before, "
        f"{machine['system']}, Python {machine['python']}; {versions}. "
        f"Commit {machine['commit']}, {machine['date']}."
    )
