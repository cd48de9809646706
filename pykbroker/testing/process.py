"""A broker in a process of its own: as a user runs it, and it can be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pykbroker.testing._settings import setting_text

START_TIMEOUT_S = 30.0
"""How long a start may take; recovery of a large data directory is the reason for more than a second."""


class BrokerProcess:
    """``python -m pykbroker serve`` as a child process; ``with`` starts and stops it.

    ``settings`` are broker settings by Kafka's names.  Without ``data_dir`` the data lives in a
    temporary directory that is removed at the end.  What the process printed is in ``log_file``.
    """

    def __init__(
        self,
        *,
        data_dir: Path | str | None = None,
        settings: Mapping[str, object] | None = None,
        plugins: Sequence[str] = (),
        listen: str = "127.0.0.1:0",
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="pykbroker-"))
        self.data_dir = Path(data_dir) if data_dir is not None else self._home / "data"
        self.settings = dict(settings or {})
        self.plugins = tuple(plugins)
        self.log_file = self._home / "broker.log"
        self.bootstrap = ""
        self._listen = listen
        self._env = dict(env or {})
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        return self._running().pid

    def start(self, timeout_s: float = START_TIMEOUT_S) -> Self:
        """Start and return when it listens; raises ``RuntimeError`` with its output when it does not."""
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError(f"the broker is already running as process {self._process.pid}")
        ready = self._home / "ready.json"
        ready.unlink(missing_ok=True)
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(
                self._command(ready),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**_environment(), **self._env},
            )
        deadline = time.monotonic() + timeout_s
        while not ready.exists():
            if self._process.poll() is not None:
                raise RuntimeError(
                    f"the broker ended with status {self._process.returncode}:\n{self.output()}"
                )
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the broker does not listen after {timeout_s} s:\n{self.output()}")
            time.sleep(0.005)
        self.bootstrap = json.loads(ready.read_text())["listeners"][0]
        self._listen = self.bootstrap
        return self

    def output(self) -> str:
        """Everything that the process has printed so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def kill(self) -> None:
        """kill -9: nothing is flushed, nothing is said.  ``start()`` again recovers."""
        process = self._running()
        process.kill()
        process.wait()

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM; returns the exit status.  A process that has ended already is left as it is."""
        process = self._running()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def restart(self) -> Self:
        """Stop and start on the same data, the same settings and the same port."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self._home, ignore_errors=True)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(
                "the broker was never started: call start() or use `with BrokerProcess() as broker:`"
            )
        return self._process

    def _command(self, ready: Path) -> list[str]:
        command = [self._python, "-m", "pykbroker", "serve", "--listen", self._listen]
        command += ["--data-dir", str(self.data_dir), "--ready-file", str(ready)]
        for name, value in self.settings.items():
            command += ["--set", f"{name}={setting_text(value)}"]
        for plugin in self.plugins:
            command += ["--plugin", plugin]
        return command


def _environment() -> dict[str, str]:
    """This process's environment without settings for a broker: a test says what it wants."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYKBROKER_")}
