"""One RabbitMQ (loopback only, its own data, its own port mapper) from the server that Debian packages."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import pika

from interop.kafka.server import free_ports

SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""Where Debian puts the scripts that do not change the user; what is on the PATH wants root."""

INSTALL = "RabbitMQ is missing; install it: apt-get install --no-install-recommends rabbitmq-server"

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0


class MissingRabbitError(Exception):
    """There is no RabbitMQ on this machine; the message has the command that installs it."""


class RabbitMQ:
    """A running server, as a context manager; ``start`` and ``stop`` by hand."""

    def __init__(self) -> None:
        self._server = SCRIPTS / "rabbitmq-server"
        if not self._server.exists():
            found = shutil.which("rabbitmq-server")
            if found is None:
                raise MissingRabbitError(INSTALL)
            self._server = Path(found)
        self.port, self._distribution_port, self._mapper_port = free_ports(3)
        self._home = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes connections; RuntimeError if it does not."""
        (self._home / "plugins").write_text("[].\n")
        # No limit that a small disk or machine would reach: nothing here is kept.
        (self._home / "rabbitmq.conf").write_text("disk_free_limit.absolute = 1MB\n")
        self._log = (self._home / "output").open("wb")
        self._process = subprocess.Popen(
            [str(self._server)],
            env=self._environment(),
            stdout=self._log,
            stderr=self._log,
            cwd=self._home,
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                output = (self._home / "output").read_text(errors="replace")[-3000:]
                self.stop()
                raise RuntimeError(f"RabbitMQ did not start:\n{output}")
            time.sleep(0.2)

    def connect(self) -> pika.BlockingConnection:
        """A connection to it."""
        return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self.port))

    def _answers(self) -> bool:
        # A bare connection first: pika logs a page for each one that is refused.
        try:
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            self.connect().close()
        except (pika.exceptions.AMQPError, OSError):
            return False
        return True

    def _environment(self) -> dict[str, str]:
        home = self._home
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("RABBITMQ_")},
            "HOME": str(home),
            "RABBITMQ_NODENAME": "interop@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
        }

    def stop(self) -> None:
        """Stop it and its port mapper, and remove its data."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
            self._end_mapper()
        if self._log is not None:
            self._log.close()
            self._log = None
        shutil.rmtree(self._home, ignore_errors=True)

    def _end_mapper(self) -> None:
        """epmd, which Erlang starts and leaves running."""
        mapper = shutil.which("epmd")
        if mapper is not None:
            environment = {**os.environ, "ERL_EPMD_PORT": str(self._mapper_port)}
            subprocess.run([mapper, "-kill"], env=environment, capture_output=True, check=False)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
