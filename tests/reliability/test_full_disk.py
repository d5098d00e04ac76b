"""Reliability 20: the disk of the store is full. It is said loudly, people are paged past the store within
60 s, and nothing is lost once there is room again.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.reliability.bus import Bus
from tests.reliability.responding import new_scene

DISK = "6m"
BATCH = 3
PAGED_WITHIN_S = 60.0

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """To the last byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (64 * 1024, 1):
            with suppress(OSError):  # there is no room left
                while file.write(b"\0" * size):
                    pass
    return filler


def test_a_full_disk_is_told_past_the_store_and_loses_nothing(bus: Bus, disk: Path, tmp_path: Path) -> None:
    with new_scene(bus, tmp_path, f"sqlite:///{disk / 'store.db'}") as scene:
        (responder,) = scene.responders
        scene.start()
        scene.detect(BATCH)
        scene.until(lambda: scene.done)
        before = len(scene.slack.messages)
        filler = fill(disk)
        began = time.monotonic()
        scene.detect(BATCH)
        scene.until(lambda: len(scene.slack.messages) > before, PAGED_WITHIN_S)
        print(f"paged {time.monotonic() - began:.1f} s after the disk was full")
        page = scene.slack.messages[-1]
        assert "disk is full" in str(page.blocks), "what was paged is why nothing else is"
        assert responder.running, responder.log_tail()
        assert "the store takes nothing" in responder.log.read_text()
        assert len(scene.incidents()) == BATCH
        scene.assert_offsets_are_covered()
        filler.unlink()
        scene.until(lambda: page.edits, 30)
        scene.slack.messages.remove(page)
        scene.finish()
