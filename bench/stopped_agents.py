"""Many agents in one process, each with the subscriber and the gate it has beside a real agent.

`python -m bench.stopped_agents BOOTSTRAP TRUSTED_KEYS FIRST COUNT` hosts agents FIRST to FIRST + COUNT - 1.
It writes JSON lines: `{"heard": COUNT}` when every one has read control to its end, then for each command
that all of them have applied `{"command_id", "mode", "at", "waited"}`: an entry an agent, the seconds since
1970 at which its gate answered so, and for how many of the seconds since the order this process was ready to
run and other work had the CPUs. Ends with its standard input.

All agents of the process share one producer for their acknowledgements; everything else is each one's own. An
idle consumer asks every 5 s, not twice a second: a thousand of them are to fit on one machine, and what comes
is handed out at once all the same.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import orjson

from watchkeeper_client import Gate, TrustedKeysFile, WantedState
from watchkeeper_client.outgoing import Record, Sender, Spool
from watchkeeper_client.subscriber import ControlSubscriber

STARTING_AT_ONCE = 125
CLOSING_S = 5.0
IDLE_FETCH_MS = 5_000
WATCH_EVERY_S = 0.05
WATCHED = 4_000


class Agents:
    """The agents of this process, and when the gate of each changed its mind."""

    def __init__(self, kafka: dict[str, Any], trusted: Path, numbers: range) -> None:
        self._kafka = kafka
        self._trusted = trusted
        self._numbers = numbers
        self._acks = Spool(limit=100 * len(numbers))
        self._at: dict[str, dict[str, tuple[float, float]]] = {}
        self._waits: deque[tuple[float, float]] = deque(maxlen=WATCHED)

    async def run(self) -> None:
        """Until cancelled."""
        starting = asyncio.Semaphore(STARTING_AT_ONCE)
        heard = [asyncio.Event() for _ in self._numbers]
        jobs = [
            asyncio.create_task(Sender(self._acks, self._kafka).run()),
            asyncio.create_task(self._watch()),
        ]
        jobs += [
            asyncio.create_task(self._agent(f"agent-{number:04d}", starting, event))
            for number, event in zip(self._numbers, heard, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in heard))
        _say({"heard": len(heard)})
        await asyncio.gather(*jobs)

    async def _agent(self, name: str, starting: asyncio.Semaphore, heard: asyncio.Event) -> None:
        state = WantedState(TrustedKeysFile(self._trusted), enforcement_point=f"client:{name}", agent=name)
        gate = Gate(state, agent=name)

        def on_heard(age_ms: float) -> None:
            gate.heard(age_ms)
            heard.set()

        def on_ack(record: Record) -> None:
            self._note(name, gate, state, orjson.loads(record.value))
            self._acks.put_urgent(record)

        kafka = {**self._kafka, "fetch_max_wait_ms": IDLE_FETCH_MS}
        subscriber = ControlSubscriber(state, kafka, send=on_ack, agent=name, on_heard=on_heard)
        async with starting:
            job = asyncio.create_task(subscriber.run())
            await heard.wait()
        await job

    async def _watch(self) -> None:
        """Keeps how long this process had waited for a CPU, at each of the last minutes' moments."""
        while True:
            self._waits.append((time.time(), waited_s()))
            await asyncio.sleep(WATCH_EVERY_S)

    def _note(self, name: str, gate: Gate, state: WantedState, ack: dict[str, Any]) -> None:
        """The gate is asked, as before a call: what counts is what it answers."""
        decision, now, waited = gate.allowed(session="s"), time.time(), waited_s()
        present = state.present("default", "*")
        if ack["result"] != "applied" or decision.command_id != ack["command_id"] or present is None:
            return
        issued = present.command.issued_at_ms / 1000
        before = next((known for moment, known in reversed(self._waits) if moment <= issued), waited)
        at = self._at.setdefault(ack["command_id"], {})
        at.setdefault(name, (now, waited - before))
        if len(at) == len(self._numbers):
            del self._at[ack["command_id"]]
            found = {"at": [moment for moment, _ in at.values()], "waited": [wait for _, wait in at.values()]}
            _say({"command_id": ack["command_id"], "mode": decision.mode, **found})


def waited_s() -> float:
    """Seconds for which this process was ready and had no CPU; 0 where that is not told."""
    try:
        return int(Path("/proc/self/schedstat").read_bytes().split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(line).decode() + "\n")
    sys.stdout.flush()


async def _until_told(agents: Agents) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    job = asyncio.create_task(agents.run())
    told = asyncio.create_task(reader.read())
    await asyncio.wait((job, told), return_when=asyncio.FIRST_COMPLETED)
    if job.done():
        job.result()
    job.cancel()
    await asyncio.wait((job,), timeout=CLOSING_S)


def main() -> None:
    """Hosts the agents that the arguments say."""
    bootstrap, trusted, first, count = sys.argv[1:]
    numbers = range(int(first), int(first) + int(count))
    asyncio.run(_until_told(Agents({"bootstrap_servers": bootstrap}, Path(trusted), numbers)))


if __name__ == "__main__":
    main()
