"""`/metrics` shows the stream worker's counts beside the responder's, as long as one writes them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from api.app import Parts, make_app
from api.metrics import STALE_S, written
from api.security import Access
from tests.api.conftest import TOKEN, Remembering


def test_what_a_worker_writes_is_shown_after_our_own(parts: Remembering, tmp_path: Path) -> None:
    file = tmp_path / "stream.prom"
    app = make_app(
        Parts(parts, parts, parts, parts, parts, parts),
        Access(TOKEN, True),
        metrics_beside=lambda: written(file),
    )
    client = TestClient(app, base_url="http://127.0.0.1")
    client.get("/v1/allow?agent=support")
    assert "watchkeeper_stream" not in client.get("/metrics").text
    file.write_text(
        "# HELP watchkeeper_stream_events_total Records applied.\n"
        "# TYPE watchkeeper_stream_events_total counter\n"
        'watchkeeper_stream_events_total{stage="sessions"} 70.0\n'
    )
    families = {each.name: each for each in text_string_to_metric_families(client.get("/metrics").text)}
    assert families["watchkeeper_stream_events"].samples[0].value == 70
    assert families["watchkeeper_http_allow"].samples[0].value == 1


def test_what_a_worker_wrote_that_is_gone_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "stream.prom"
    assert (written(None), written(file)) == (b"", b"")
    file.write_bytes(b"watchkeeper_stream_events_total 1.0\n")
    assert written(file)
    long_ago = time.time() - STALE_S - 1
    os.utime(file, (long_ago, long_ago))
    assert written(file) == b""
