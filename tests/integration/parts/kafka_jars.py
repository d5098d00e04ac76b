"""Apache Kafka's jars: fetched once with Maven, checked against the hashes in tools/kafka, kept in .cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.parts.process import PartUnavailableError

REPOSITORY = Path(__file__).resolve().parents[3]
POM = REPOSITORY / "tools" / "kafka" / "pom.xml"
HASHES = REPOSITORY / "tools" / "kafka" / "jars.sha256"
LOGGING = REPOSITORY / "tools" / "kafka" / "log4j2.xml"
CACHE = REPOSITORY / ".cache" / "kafka"

_MINIMUM_JAVA = 17
_FETCH_TIMEOUT_S = 600
_INSTEAD = "or set WATCHKEEPER_TEST_KAFKA=host:port to use a broker that already runs"


def find_java() -> Path:
    """The java to run Kafka with: JAVA_HOME's, else the one on PATH."""
    home = os.environ.get("JAVA_HOME")
    found = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if found is None or not Path(found).exists():
        raise PartUnavailableError(
            f"Apache Kafka needs Java {_MINIMUM_JAVA} or newer and there is none: install a JRE "
            f"(Debian: apt-get install openjdk-17-jre-headless), {_INSTEAD}"
        )
    told = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    if version is None or int(version.group(1)) < _MINIMUM_JAVA:
        raise PartUnavailableError(
            f"Apache Kafka needs Java {_MINIMUM_JAVA} or newer; {found} says: {told.strip()}"
        )
    return Path(found)


def fetch_jars(cache: Path = CACHE) -> Path:
    """The folder with the jars, fetched now if it is not there or is another version's."""
    libs, stamp = cache / "libs", cache / "libs.stamp"
    wanted = hashlib.sha256(POM.read_bytes() + HASHES.read_bytes()).hexdigest()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        if libs.is_dir() and stamp.exists() and stamp.read_text() == wanted:
            return libs
        stamp.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as scratch:
            fetched = Path(scratch) / "libs"
            _run_maven(fetched)
            check_hashes(fetched, HASHES)
            if libs.exists():
                shutil.rmtree(libs)
            fetched.rename(libs)
        stamp.write_text(wanted)
    return libs


def check_hashes(libs: Path, hashes: Path) -> None:
    """Every jar is one we know, and none is missing."""
    known = {name: digest for digest, name in (line.split() for line in hashes.read_text().splitlines())}
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in libs.glob("*.jar")}
    wrong = sorted(name for name in known.keys() | found.keys() if known.get(name) != found.get(name))
    if wrong:
        raise PartUnavailableError(
            f"these jars are missing or not the ones {hashes.name} names: {', '.join(wrong)}; fetch again, "
            "and if it stays so, find out who changed them before writing new hashes"
        )


def _run_maven(target: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise PartUnavailableError(
            f"Apache Kafka's jars are fetched with Maven and there is none: install it "
            f"(Debian: apt-get install maven), {_INSTEAD}"
        )
    # -C: a jar that does not match the registry's own checksum is an error and not a warning.
    command = [maven, "-q", "-B", "-C", "-f", str(POM), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_FETCH_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise PartUnavailableError(
            f"fetching Apache Kafka's jars took over {_FETCH_TIMEOUT_S} s: check the network, {_INSTEAD}"
        ) from None
    if run.returncode != 0:
        errors = [line for line in run.stdout.splitlines() if line.startswith("[ERROR]")][:3]
        raise PartUnavailableError(
            "Maven could not fetch Apache Kafka's jars: check the network and Maven's settings, "
            f"{_INSTEAD}\n" + "\n".join(errors or [run.stderr.strip()])
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One fetch at a time, also between processes."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
