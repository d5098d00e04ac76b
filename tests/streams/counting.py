"""numbers → counts: counts records per key. The smallest stage with state, to try the worker itself with.

A record is a JSON object with a field `key`. Every `every`th of a key emits `key:count`.

    python -m tests.streams.counting --bootstrap HOST:PORT --group NAME run
    python -m tests.streams.counting --bootstrap HOST:PORT --group NAME state

`run` prints READY, runs until SIGTERM, and ends with exit code 1 on a failure. `state` prints what the
changelog holds: {"keys": …, "total": …, "digest": …}.
"""

import argparse
import asyncio
import hashlib
import json
import logging
import struct
from collections.abc import Iterable, Sequence

import orjson

from streams.changelog import changelog_topic, read_state
from streams.stage import Marker, Output, RecordBatch, Stage
from streams.transport import ClientSettings
from streams.worker import WorkerSettings, run_process

STAGE = "counting"
_STATE = struct.Struct("<qq")  # count, last applied offset


class CountingProcessor:
    """Counts per key; each state value carries the last offset applied to the key."""

    def __init__(self, output: str, every: int) -> None:
        self._output = output
        self._every = every
        self._state: dict[bytes, tuple[int, int]] = {}
        self._dirty: set[bytes] = set()
        self._marker = Marker({}, 0)

    def restore(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._state.pop(key, None)
        else:
            self._state[key] = _STATE.unpack(value)

    def restore_marker(self, value: bytes) -> None:
        self._marker = Marker.decode(value)

    def process(self, batch: RecordBatch) -> Iterable[Output]:
        outputs = []
        watermark_ms = self._marker.watermark_ms
        for record in batch.records:
            key = orjson.loads(record.value or b"{}")["key"].encode()
            count, last_offset = self._state.get(key, (0, -1))
            if record.offset <= last_offset:
                continue
            count += 1
            self._state[key] = (count, record.offset)
            self._dirty.add(key)
            watermark_ms = max(watermark_ms, record.timestamp)
            if count % self._every == 0:
                outputs.append(Output(self._output, key, b"%s:%d" % (key, count), record.timestamp))
        self._marker = Marker({batch.topic: batch.last_offset}, watermark_ms)
        return outputs

    def tick(self, broker_now_ms: int) -> Iterable[Output]:
        self._marker = self._marker._replace(watermark_ms=max(self._marker.watermark_ms, broker_now_ms))
        return ()

    def dirty(self) -> Iterable[tuple[bytes, bytes | None]]:
        keys, self._dirty = self._dirty, set()
        return [(key, self.value(key)) for key in keys]

    def value(self, key: bytes) -> bytes | None:
        state = self._state.get(key)
        return None if state is None else _STATE.pack(*state)

    def marker(self) -> bytes:
        return self._marker.encode()

    @property
    def counts(self) -> dict[bytes, int]:
        return {key: count for key, (count, _) in self._state.items()}


def counting_stage(source: str = "numbers", output: str = "counts", every: int = 10) -> Stage:
    return Stage(
        STAGE, sources=(source,), make=lambda _partition: CountingProcessor(output, every), outputs=(output,)
    )


async def counts_in_changelog(settings: ClientSettings) -> dict[str, int]:
    """Key to count, as the changelog has it."""
    partitions = await read_state(settings, changelog_topic(settings.group_id, STAGE))
    return {
        key.decode(): _STATE.unpack(value)[0] for state in partitions.values() for key, value in state.items()
    }


def digest(counts: dict[str, int]) -> str:
    """The same for the same counts, whatever the order."""
    return hashlib.sha256(json.dumps(sorted(counts.items())).encode()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level)
    client = ClientSettings(
        options.bootstrap,
        options.group,
        session_timeout_ms=options.session_timeout_ms,
        idempotent_producer=not options.no_idempotence,
    )
    if options.action == "state":
        counts = asyncio.run(counts_in_changelog(client))
        print(json.dumps({"keys": len(counts), "total": sum(counts.values()), "digest": digest(counts)}))
        return
    settings = WorkerSettings(
        client,
        checkpoint_interval_s=options.checkpoint_s,
        checkpoint_events=options.checkpoint_events,
        stall_s=options.stall_s,
    )
    run_process(
        lambda: [counting_stage(options.source, options.output, options.every)],
        settings,
        on_ready=lambda: print("READY", flush=True),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.streams.counting", description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--source", default="numbers")
    parser.add_argument("--output", default="counts")
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--checkpoint-s", type=float, default=2.0)
    parser.add_argument("--checkpoint-events", type=int, default=20_000)
    parser.add_argument("--session-timeout-ms", type=int, default=6_000)
    parser.add_argument("--stall-s", type=float, default=60.0)
    parser.add_argument("--no-idempotence", action="store_true")
    parser.add_argument("--log-level", default="WARNING")
    parser.add_argument("action", choices=["run", "state"])
    return parser


if __name__ == "__main__":
    main()
