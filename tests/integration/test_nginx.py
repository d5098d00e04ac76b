"""The nginx configurations of docs/enforcement.md, as they stand there, in front of a tool and an engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from api.allow import Allow, WantedDecider
from api.metrics import make_metrics
from tests.client.commands import KEYS, OPERATOR, fields, raw
from tests.integration.parts.ports import free_port
from watchkeeper_client import WantedState
from watchkeeper_client.gate import FailMode, wall_clock_ms

NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
DOCS = Path(__file__).parents[2] / "docs" / "enforcement.md"

pytestmark = [
    pytest.mark.nginx,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt install nginx-light"),
]

ENGINE, CLOSED, OPENED, TOOL = 8080, 8081, 8082, 9000
"""The ports the documentation speaks of."""


def documented(ports: dict[int, int]) -> str:
    """Both configurations, on free ports."""
    blocks = re.findall(r"```nginx\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    text = "\n".join(blocks)
    for said, free in ports.items():
        assert f"127.0.0.1:{said};" in text
        text = text.replace(f"127.0.0.1:{said};", f"127.0.0.1:{free};")
    return text


class _Tool(BaseHTTPRequestHandler):
    """What the agent calls through the proxy; remembers what reached it."""

    protocol_version = "HTTP/1.1"
    seen: list[str]

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append(self.path)
        status = 500 if self.path == "/broken" else 200
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET  # noqa: N815 - the name the base class calls

    def log_message(self, *_: Any) -> None:
        """Quietly."""


@dataclass
class Engine:
    """The engine's `/v1/allow`, which can be stopped and started."""

    port: int
    fail_mode: FailMode = "open"
    state: WantedState = field(default_factory=lambda: WantedState(KEYS, enforcement_point="http:test"))

    def start(self) -> None:
        self.decider = WantedDecider(self.state, self.fail_mode)
        allow = Allow(self.decider, make_metrics(None))
        app = Starlette(routes=[Route("/v1/allow/{path:path}", allow.by_headers)])
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, port=self.port, log_level="warning", lifespan="off", timeout_graceful_shutdown=1
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def command(self, command: bytes) -> None:
        assert self.state.apply(command, wall_clock_ms())["result"] == "applied"


@dataclass
class Site:
    """Everything at work."""

    engine: Engine
    ports: dict[int, int]
    seen: list[str]

    def call(self, path: str = "/tools/search", *, at: int = CLOSED, **options: Any) -> httpx.Response:
        return httpx.request(
            options.pop("method", "GET"), f"http://127.0.0.1:{self.ports[at]}{path}", timeout=10, **options
        )


def until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@contextmanager
def tool(port: int) -> Iterator[list[str]]:
    handler = type("Tool", (_Tool,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield handler.seen
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def nginx(folder: Path, configuration: str, port: int) -> Iterator[None]:
    paths = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}{configuration}}}\n"
    )
    assert NGINX is not None
    arguments = [NGINX, "-p", str(folder), "-c", str(main)]
    checked = subprocess.run([*arguments, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(port))
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def _answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
    except httpx.TransportError:
        return False
    return True


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    ports = {said: free_port() for said in (ENGINE, CLOSED, OPENED, TOOL)}
    engine = Engine(ports[ENGINE])
    tmp_path.chmod(0o755)
    with tool(ports[TOOL]) as seen:
        engine.start()
        try:
            with nginx(tmp_path, documented(ports), ports[CLOSED]):
                seen.clear()
                yield Site(engine, ports, seen)
        finally:
            engine.stop()


@pytest.mark.parametrize("at", [CLOSED, OPENED])
def test_what_is_allowed_passes_and_what_is_halted_does_not(site: Site, at: int) -> None:
    assert site.call(at=at).text == "ok"
    assert site.call(at=at, method="POST", content=b"{}").status_code == 200
    site.engine.command(raw(fields()))
    before = len(site.seen)
    for method in ("GET", "POST"):
        denied = site.call(at=at, method=method)
        assert denied.status_code == 403
    assert len(site.seen) == before, "nothing reached the tool"
    site.engine.command(raw(fields(epoch=2, mode="run"), OPERATOR))
    assert site.call(at=at).status_code == 200


def test_a_session_and_a_tool_can_be_stopped_alone(site: Site) -> None:
    site.engine.command(raw(fields(session="s-1")))
    site.engine.command(raw(fields(mode="degrade", revoked_tools=["mail"])))
    assert site.call(headers={"X-Session": "s-1"}).headers["x-watchkeeper-denied"] == "halt"
    for path in ("/tools/mail", "/tools/mail/send?x=1", "/tools/%6Dail", "//tools/./search/../mail"):
        assert site.call(path).headers["x-watchkeeper-denied"] == "revoked_tool"
        assert site.call(path, at=OPENED).status_code == 403
    assert site.seen == []
    for path in ("/tools/search", "/tools/mailbox", "/mail"):
        assert site.call(path, headers={"X-Session": "s-2"}).status_code == 200


def test_an_agent_cannot_pass_for_another(site: Site) -> None:
    site.engine.command(raw(fields()))
    headers = {"X-Watchkeeper-Agent": "other", "X-Watchkeeper-Tenant": "other"}
    assert site.call("/tools/search?agent=other&tenant=other", headers=headers).status_code == 403
    assert site.call("/watchkeeper").status_code == 404
    assert site.seen == []


def test_an_engine_that_is_down_follows_the_fail_mode(site: Site) -> None:
    site.engine.command(raw(fields()))
    assert site.call().status_code == 403
    site.engine.stop()
    closed = site.call()
    assert closed.status_code == 503
    assert "the call is not made" in closed.text
    assert site.seen == []
    assert site.call(at=OPENED).status_code == 200
    site.engine.start()
    for at in (CLOSED, OPENED):
        until(lambda at=at: site.call(at=at).status_code == 403)


def test_an_engine_that_does_not_hear_control_follows_its_own(site: Site) -> None:
    site.engine.stop()
    site.engine.fail_mode = "closed"
    site.engine.start()
    assert site.call().headers["x-watchkeeper-denied"] == "unheard"
    site.engine.decider.heard()
    assert site.call().status_code == 200


def test_a_tool_that_fails_is_not_mistaken_for_the_engine(site: Site) -> None:
    answer = site.call("/broken")
    assert (answer.status_code, answer.text) == (500, "ok")


def test_a_denial_is_readable(site: Site) -> None:
    site.engine.command(raw(fields(mode="throttle", calls_per_minute=0)))
    answer = httpx.get(
        f"http://127.0.0.1:{site.ports[ENGINE]}/v1/allow/", headers={"X-Watchkeeper-Agent": "shop"}
    )
    assert json.loads(answer.text)["denied"] == "throttle"
