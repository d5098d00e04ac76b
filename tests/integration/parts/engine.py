"""The whole engine as its users run it: `watchkeeper up` on embedded defaults, as a child process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READY_TIMEOUT_S = 120.0


@dataclass
class UpEngine:
    """`watchkeeper up` in a data directory. Use as a context manager."""

    data_dir: Path
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    kafka: str = ""
    http: str = ""

    def __enter__(self) -> UpEngine:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.output: list[str] = []
        self.process = subprocess.Popen(
            [*COMMAND, "up", "--data-dir", str(self.data_dir), "--http-port", "0", *self._broker()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environment},
        )
        self._errors = threading.Thread(target=self._collect, daemon=True)
        self._errors.start()
        ready = self._ready()
        self.kafka, self.http = ready["kafka"], ready["http"]
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    @property
    def trusted_keys(self) -> Path:
        return self.data_dir / "keys" / "trusted.json"

    @property
    def token(self) -> str:
        return (self.data_dir / "http.token").read_text().strip()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A `watchkeeper` command on the engine's data directory."""
        return run_cli(*arguments, "--data-dir", str(self.data_dir), env=self.environment)

    def json(self, *arguments: str) -> Any:
        """What a command prints with `--json`."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def _broker(self) -> tuple[str, ...]:
        return self.arguments or ("--kafka-port", "0")

    def _ready(self) -> dict[str, str]:
        assert self.process.stdout is not None
        timer = threading.Timer(READY_TIMEOUT_S, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                if line.startswith("READY "):
                    ready: dict[str, str] = json.loads(line.removeprefix("READY "))
                    return ready
        finally:
            timer.cancel()
        self._errors.join(timeout=5)
        raise AssertionError(f"no READY line; standard error: {''.join(self.output)}")

    def _collect(self) -> None:
        assert self.process.stderr is not None
        self.output.extend(self.process.stderr)


COMMAND = (sys.executable, "-m", "cli.main")


def run_cli(
    *arguments: str, env: dict[str, str] | None = None, timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """A `watchkeeper` command, to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
    )
