"""Where the jars of Apache Kafka and the ``java`` to run them come from.

Looked for in this order: the folder named by the environment variable ``PYKBROKER_KAFKA_LIBS``; the cache
folder ``~/.cache/pykbroker/kafka-<version>/libs``, filled once by Maven (55 MB) from the ``pom.xml`` here.
"""

import os
import shutil
import subprocess
from pathlib import Path

KAFKA_VERSION = "4.3.1"
LIBS_VARIABLE = "PYKBROKER_KAFKA_LIBS"

INSTALL = {
    "java": "apt-get install -y openjdk-17-jre-headless   (macOS: brew install openjdk@17)",
    "mvn": "apt-get install -y maven   (macOS: brew install maven)",
}

_HERE = Path(__file__).parent
_MAVEN_TIMEOUT_S = 900


class MissingToolError(Exception):
    """Something that a real Kafka needs is not on this machine; the message says what installs it."""


def cache_folder() -> Path:
    """Where downloaded jars and the archives derived from them are kept between runs."""
    return Path.home() / ".cache" / "pykbroker" / f"kafka-{KAFKA_VERSION}"


def find_tool(name: str) -> str:
    """The path of an executable. Raises MissingToolError with the command that installs it."""
    found = shutil.which(name)
    if found is None:
        raise MissingToolError(f"{name} is not installed: {INSTALL[name]}")
    return found


def find_libs() -> Path:
    """The folder with Kafka's jars, fetched first if need be.

    Raises MissingToolError if the folder named in the environment holds no Kafka, if Maven is needed and
    missing, or if Maven fails."""
    named = os.environ.get(LIBS_VARIABLE)
    if named:
        if not _holds_kafka(Path(named)):
            raise MissingToolError(
                f"{LIBS_VARIABLE}={named} holds no kafka_*.jar; unset it to let Maven fetch the jars"
            )
        return Path(named)
    libs = cache_folder() / "libs"
    if not _holds_kafka(libs):
        _fetch(libs)
    return libs


def classpath(libs: Path) -> str:
    """The class path of all jars in a folder, in a fixed order (a class-data archive is only valid for one
    order)."""
    return os.pathsep.join(str(jar) for jar in sorted(libs.glob("*.jar")))


def _holds_kafka(libs: Path) -> bool:
    return any(libs.glob("kafka_*.jar"))


def _fetch(libs: Path) -> None:
    partial = libs.with_name(f"libs-{os.getpid()}")
    command = [find_tool("mvn"), "-q", "-B", "-f", str(_HERE / "pom.xml"), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_MAVEN_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0 or not _holds_kafka(partial):
        shutil.rmtree(partial, ignore_errors=True)
        raise MissingToolError(f"Maven could not fetch Apache Kafka {KAFKA_VERSION}:\n{done.stdout[-2000:]}")
    try:
        partial.rename(libs)
    except OSError:  # another run was faster
        shutil.rmtree(partial, ignore_errors=True)
        if not _holds_kafka(libs):
            raise
