"""Reliability 20: the disk of the store is full. It is said loudly, people are paged past the store within
60 s, and nothing is lost once there is room again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.parts.fixtures import started
from tests.integration.parts.postgres import PostgresServer
from tests.reliability.bus import Bus
from tests.reliability.responding import new_scene

SQLITE_DISK = "6m"
POSTGRES_DISK = "96m"
"""A new server takes 42."""
BATCH = 3
MANY = 40
"""More than PostgreSQL has pages for already."""
PAGED_WITHIN_S = 60.0

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]


@dataclass
class StoreOnDisk:
    """A store that is alone on a file system of a few megabytes."""

    disk: Path
    url: str
    full: str
    """What it says."""
    server: PostgresServer | None = None

    def fill(self) -> None:
        """To the last byte, also what was given free since."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (64 * 1024, 1):
                with suppress(OSError):  # there is no room left
                    while file.write(b"\0" * size):
                        pass

    def make_room(self) -> None:
        self._filler.unlink()
        if self.server is not None:
            self.server.start()

    @property
    def _filler(self) -> Path:
        return self.disk / "filler"


@contextmanager
def file_system(size: str) -> Iterator[Path]:
    """A small one, for as long as it is needed."""
    # Not below the test's own temporary folder: PostgreSQL runs under an account that may not enter it.
    folder = Path(tempfile.mkdtemp(prefix="watchkeeper-disk-"))
    folder.chmod(0o755)
    place = folder / "disk"
    place.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
            pytest.skip("a small file system can only be mounted by root")
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Iterator[StoreOnDisk]:
    if request.param == "sqlite":
        with file_system(SQLITE_DISK) as disk:
            yield StoreOnDisk(disk, f"sqlite:///{disk / 'store.db'}", "disk is full")
        return
    with file_system(POSTGRES_DISK) as disk:
        data = disk / "data"
        data.mkdir()
        server = PostgresServer(data=data)
        try:
            started(server)
            # It may end when its log has no room either, and then says only that it is gone.
            yield StoreOnDisk(
                disk, server.url(server.new_database()), "check the database and its disk", server
            )
        finally:
            server.close()


def test_a_full_disk_is_told_past_the_store_and_loses_nothing(
    bus: Bus, store: StoreOnDisk, tmp_path: Path
) -> None:
    with new_scene(bus, tmp_path, store.url) as scene:
        (responder,) = scene.responders
        scene.start()
        scene.detect(BATCH)
        scene.until(lambda: scene.done)
        store.fill()
        began = time.monotonic()
        scene.detect(MANY)

        def is_told() -> bool:
            store.fill()
            return bool(scene.slack.told_past_the_store())

        scene.until(is_told, PAGED_WITHIN_S)
        print(f"paged {time.monotonic() - began:.1f} s after the disk was full")
        (page,) = scene.slack.told_past_the_store()
        assert "store takes nothing" in str(page.blocks)
        assert store.full in str(page.blocks), "what was paged is why nothing else is"
        scene.until(lambda: "the store takes nothing" in responder.log.read_text())
        assert responder.running, responder.log_tail()
        assert len(scene.gates.heard) < len(scene.sent), "something was written that there is no room for"
        store.make_room()
        scene.assert_offsets_are_covered()
        scene.until(lambda: page.edits)
        scene.finish()
