"""One Apache Kafka (KRaft, broker and controller in one process, loopback only) from its jars."""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from interop.kafka import jars

CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"
NODE_ID = 1

_HERE = Path(__file__).parent
_STARTED = b"Kafka Server started"
_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 60.0


class KafkaStartError(Exception):
    """Apache Kafka did not come up; the message ends with the last lines of its log."""


class ApacheKafka:
    """A broker that can be started, stopped, killed and started again on the same data and the same port.

    :param data_dir: kept if given; otherwise a temporary folder, removed by :meth:`close`.
    :param settings: lines of server.properties to add or to replace.
    :param warm: let the JVM compile fully (benchmarks). By default only its first compiler tier is used,
        which starts in half the time.
    :param heap_mb: the JVM's heap, in MiB.

    Raises :class:`~interop.kafka.jars.MissingToolError` when there is no Java or there are no jars.
    """

    name = "apache-kafka"

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        warm: bool = False,
        heap_mb: int = 512,
    ) -> None:
        self._java = jars.find_tool("java")
        self._libs = jars.find_libs()
        self._warm = warm
        self._heap_mb = heap_mb
        self._temporary = data_dir is None
        self.data_dir = data_dir or Path(tempfile.mkdtemp(prefix="apache-kafka-"))
        self.port, controller_port = free_ports(2)
        self._properties = _properties(self.log_dir, self.port, controller_port) | dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._new_archive: Path | None = None

    @property
    def bootstrap(self) -> str:
        """host:port of the client listener."""
        return f"127.0.0.1:{self.port}"

    @property
    def log_dir(self) -> Path:
        """The folder that holds the partitions' folders."""
        return self.data_dir / "logs"

    @property
    def server_log(self) -> Path:
        """What the broker printed, all starts one behind the other."""
        return self.data_dir / "server.log"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Formats the data folder if it is new, starts the broker and waits until it serves.

        Raises KafkaStartError if the process ends or 90 seconds pass first.
        """
        assert self._process is None, "already running"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        properties_file = self.data_dir / "server.properties"
        properties_file.write_text("".join(f"{key}={value}\n" for key, value in self._properties.items()))
        if not (self.log_dir / "meta.properties").exists():
            self._format(properties_file)
        start_of_log = self.server_log.stat().st_size if self.server_log.exists() else 0
        self._log = self.server_log.open("ab")
        command = [self._java, f"-Xmx{self._heap_mb}m", *self._jvm_options(), *self._class_options()]
        self._process = subprocess.Popen(
            [*command, "kafka.Kafka", str(properties_file)],
            stdout=self._log,
            stderr=self._log,
            cwd=self.data_dir,
        )
        self._wait_until_started(start_of_log)

    def stop(self) -> None:
        """SIGTERM and an orderly shutdown; does nothing when not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget_process()
        if self._new_archive is not None and self._new_archive.exists():
            self._new_archive.replace(self._archive())
        self._new_archive = None

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, no clean-shutdown mark is left; does nothing when not running.

        The next start takes 10 seconds, until the controller has given up the old broker's session. The
        settings ``broker.session.timeout.ms`` and ``broker.heartbeat.interval.ms`` shorten that."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._forget_process()

    def close(self) -> None:
        """Stops, and removes the data folder if it was a temporary one."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _forget_process(self) -> None:
        self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def _format(self, properties_file: Path) -> None:
        command = [
            self._java,
            "-XX:TieredStopAtLevel=1",
            *self._class_options(),
            "kafka.tools.StorageTool",
            "format",
        ]
        command += ["-t", CLUSTER_ID, "-c", str(properties_file)]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode != 0:
            raise KafkaStartError(f"format failed:\n{done.stdout[-2000:]}")

    def _class_options(self) -> list[str]:
        return [f"-Dlog4j2.configurationFile={_HERE / 'log4j2.yaml'}", "-cp", jars.classpath(self._libs)]

    def _jvm_options(self) -> list[str]:
        """Compiler tier, and the class-data archive: used if there is one, else made when this process
        stops."""
        options = [] if self._warm else ["-XX:TieredStopAtLevel=1"]
        archive = self._archive()
        if archive.exists():
            return [*options, f"-XX:SharedArchiveFile={archive}"]
        archive.parent.mkdir(parents=True, exist_ok=True)
        self._new_archive = archive.with_suffix(f".{os.getpid()}.tmp")
        return [*options, f"-XX:ArchiveClassesAtExit={self._new_archive}"]

    def _archive(self) -> Path:
        """An archive fits one JVM and one list of jars; the name says which."""
        real_java = str(Path(self._java).resolve())
        digest = hashlib.sha256(f"{real_java}\n{jars.classpath(self._libs)}".encode()).hexdigest()[:12]
        folder = self._libs.parent if os.access(self._libs.parent, os.W_OK) else jars.cache_folder()
        return folder / f"classes-{digest}.jsa"

    def _wait_until_started(self, start_of_log: int) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            with self.server_log.open("rb") as log:
                log.seek(start_of_log)
                if _STARTED in log.read():
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        self.kill()
        raise KafkaStartError(f"Apache Kafka did not start:\n{self.server_log.read_text()[-3000:]}")


def free_ports(count: int) -> list[int]:
    """So many different TCP ports that were free on the loopback interface just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _properties(log_dir: Path, port: int, controller_port: int) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": str(NODE_ID),
        "controller.quorum.voters": f"{NODE_ID}@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(log_dir),
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # Tests write records that are years old: retention must not run while they are read.
        "log.initial.task.delay.ms": "3600000",
    }
