"""The database is a real one: what was committed survives kill -9, and tests share no data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.integration.parts import postgres as part
from tests.integration.parts.postgres import PostgresServer, installed_binaries
from tests.integration.parts.process import PartError, PartUnavailableError
from tests.integration.parts.proxy import TcpProxy


def _execute(url: str, *statements: str) -> list[tuple[object, ...]]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    rows: list[tuple[object, ...]] = []
    with engine.begin() as connection:
        for statement in statements:
            result = connection.execute(sa.text(statement))
            rows = [tuple(row) for row in result] if result.returns_rows else []
    return rows


def test_it_is_postgresql_with_skip_locked(postgres_url: str) -> None:
    version = _execute(postgres_url, "CREATE TABLE t (i int)", "SELECT version()")[0][0]
    assert str(version).startswith("PostgreSQL ")
    assert _execute(postgres_url, "SELECT * FROM t FOR UPDATE SKIP LOCKED") == []


def test_databases_are_apart(postgres: PostgresServer, postgres_url: str) -> None:
    other = postgres.new_database()
    _execute(postgres_url, "CREATE TABLE only_here (i int)")
    with pytest.raises(sa.exc.ProgrammingError, match="only_here"):
        _execute(postgres.url(other), "SELECT * FROM only_here")
    postgres.drop_database(other)
    with pytest.raises(sa.exc.OperationalError, match="does not exist"):
        _execute(postgres.url(other), "SELECT 1")


def test_drop_database_ends_open_sessions(postgres: PostgresServer) -> None:
    name = postgres.new_database()
    engine = sa.create_engine(postgres.url(name))
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        postgres.drop_database(name)
        with pytest.raises(sa.exc.OperationalError):
            connection.execute(sa.text("SELECT 1"))
    engine.dispose()


def test_committed_rows_survive_kill_9_and_open_ones_do_not(postgres_server: PostgresServer) -> None:
    url = postgres_server.url(postgres_server.new_database())
    _execute(url, "CREATE TABLE t (i int)")
    for kill in range(3):
        _execute(url, f"INSERT INTO t VALUES ({kill})")
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (-1)"))
            pid = postgres_server.pid
            postgres_server.kill()
            with pytest.raises(sa.exc.OperationalError):
                connection.execute(sa.text("COMMIT"))
            connection.invalidate()
        engine.dispose()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        with pytest.raises(sa.exc.OperationalError):
            _execute(url, "SELECT 1")
        postgres_server.start()
        assert "automatic recovery" in postgres_server.log_tail()
        assert _execute(url, "SELECT i FROM t ORDER BY i") == [(n,) for n in range(kill + 1)]


def test_stop_and_start_keep_the_data_and_close_removes_it() -> None:
    with PostgresServer() as server:
        url = server.url(server.new_database())
        _execute(url, "CREATE TABLE t (i int)", "INSERT INTO t VALUES (7)")
        server.stop()
        assert not server.running
        server.start()
        assert _execute(url, "SELECT i FROM t") == [(7,)]
        (home,) = Path(_execute(url, "SHOW data_directory")[0][0]).parents[0:1]  # type: ignore[arg-type]
        assert home.is_dir()
    assert not home.exists()


def test_a_cut_wire_breaks_the_session_and_heals(postgres: PostgresServer, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    with TcpProxy(postgres.address) as proxy:
        url = postgres.url(database, via=proxy.address)
        assert _execute(url, "SELECT 1") == [(1,)]
        proxy.cut()
        with pytest.raises(sa.exc.OperationalError):
            _execute(url, "SELECT 1")
        assert _execute(postgres_url, "SELECT 1") == [(1,)]
        proxy.heal()
        assert _execute(url, "SELECT 1") == [(1,)]


@pytest.mark.postgres
@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another account")
def test_binaries_that_only_root_may_read_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, installed = tmp_path / "closed", installed_binaries().parent
    part.copy_install(installed, closed)
    closed.chmod(0o700)
    binaries = closed / installed.parent.name / installed.name / "bin"
    monkeypatch.setattr(part, "installed_binaries", lambda: binaries)
    with PostgresServer() as server:
        assert _execute(server.url("postgres"), "SELECT 1") == [(1,)]
    assert closed.stat().st_mode & 0o777 == 0o700


def test_without_the_wheel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(PartUnavailableError, match="make install"):
        installed_binaries()


@pytest.mark.postgres
def test_a_server_that_cannot_start_shows_its_log(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(part._SERVER_SETTINGS, "shared_buffers", "lots")
    server = PostgresServer()
    with pytest.raises(PartError, match="shared_buffers"):
        server.start()
    server.close()
