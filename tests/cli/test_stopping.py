"""A command that started an engine of its own takes it along when it is told to end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE_S = 60.0


def children(pid: int) -> list[int]:
    """Processes whose parent this is."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.embedded
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_drill_that_is_told_to_end_leaves_no_engine_behind(tmp_path: Path) -> None:
    drill = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "drill", "file-listing", "--data-dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + PATIENCE_S
    while not (engine := [each for child in children(drill.pid) for each in (child, *children(child))]):
        assert drill.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    drill.send_signal(signal.SIGTERM)
    assert drill.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert not [pid for pid in engine if Path(f"/proc/{pid}").exists()]
