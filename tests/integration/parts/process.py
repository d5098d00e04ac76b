"""A child process that does not outlive the test run, however the run ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# The guard reads a pipe that only this process writes to. Should the run die, even of kill -9, the pipe
# closes and the guard ends the child. (A parent-death signal follows the forking thread, not the process.)
_GUARD = 'read -r _; kill -9 "$1" 2>/dev/null'

_LOG_TAIL_BYTES = 4_000


class PartError(Exception):
    """A real part cannot run here, or does not do what it should; the message says what to do."""


class PartUnavailableError(PartError):
    """The machine lacks something the part needs."""


class Child:
    """One running process, with its output in a file, and a guard beside it."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: int | None = None,
        group: int | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                user=user,
                group=group,
                extra_groups=None if user is None else [],
                # Ctrl-C in the terminal goes to the run alone, which then stops its parts in order.
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._dismiss_guard()
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.kill(self._process.pid, number)

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit code; subprocess.TimeoutExpired when it still runs."""
        code = self._process.wait(timeout_s)
        self._dismiss_guard()
        return code

    def stop(self, timeout_s: float = 20.0, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; kill it when it does not in time. Returns the exit code."""
        self.send_signal(number)
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        self.send_signal(signal.SIGKILL)
        return self.wait()

    def log_tail(self) -> str:
        with self.log.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")

    def _dismiss_guard(self) -> None:
        # The child is reaped and its pid may be another's soon: the guard must go before its pipe closes.
        self._guard.kill()
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
