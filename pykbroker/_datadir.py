"""A data directory has one broker at a time: who holds it, and where that broker listens.

``.lock`` is held with flock for as long as the process lives, so a killed broker leaves no stale lock
behind; its text says who holds it.  ``pykbroker.json`` tells other programs where to connect and is
there while the broker listens.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path

LOCK_FILE = ".lock"
INFO_FILE = "pykbroker.json"


class StartError(Exception):
    """The broker cannot start; ``str()`` says why, :attr:`hint` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class DataDirectory:
    """The data directory of a running broker, from :meth:`hold` to :meth:`release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pid = os.getpid()
        self._lock_fd = -1

    def hold(self) -> None:
        """Make the directory and lock it.

        Raises :class:`StartError`, before anything was written, when another broker has it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as failure:
            raise StartError(
                f"data directory {self.path} cannot be used: {failure.strerror}",
                "Give a directory that this user may write to: --data-dir DIR",
            ) from failure
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failure:
            holder = os.pread(fd, 4096, 0).decode(errors="replace")
            os.close(fd)
            if not isinstance(failure, BlockingIOError):
                raise StartError(
                    f"data directory {self.path} cannot be locked: {failure.strerror}",
                    "Give a directory on a file system with locks: --data-dir DIR",
                ) from failure
            raise self._held(holder) from None
        self._lock_fd = fd
        (self.path / INFO_FILE).unlink(missing_ok=True)  # of a broker that was killed
        self._write_lock({"pid": self.pid})

    def _held(self, holder: str) -> StartError:
        try:
            entry = json.loads(holder)
            pid, listeners = entry["pid"], entry.get("listeners", [])
        except (ValueError, KeyError, TypeError, AttributeError):
            who, stop = "another broker", "Stop that broker"
        else:
            who, stop = f"the broker with process id {pid}", f"Stop that broker (kill {pid})"
            if listeners:
                who += f", which listens on {', '.join(listeners)}"
        return StartError(
            f"data directory {self.path} is in use by {who}",
            f"{stop}, or give this one a directory of its own: --data-dir DIR",
        )

    def publish(self, info: Mapping[str, object], ready_file: Path | None = None) -> None:
        """Write ``pykbroker.json``, and the same to ``ready_file``: readers see all of it or nothing."""
        self._write_lock({"pid": self.pid, "listeners": info["listeners"]})
        text = json.dumps(info, indent=2) + "\n"
        for path in (self.path / INFO_FILE, ready_file):
            if path is not None:
                draft = path.with_name(f"{path.name}.{self.pid}.tmp")
                draft.write_text(text)
                draft.replace(path)

    def release(self) -> None:
        """Take ``pykbroker.json`` away and let the next broker in.  Does nothing when not held."""
        if self._lock_fd >= 0:
            (self.path / INFO_FILE).unlink(missing_ok=True)
            os.ftruncate(self._lock_fd, 0)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _write_lock(self, entry: Mapping[str, object]) -> None:
        text = json.dumps(entry).encode()
        os.pwrite(self._lock_fd, text, 0)
        os.ftruncate(self._lock_fd, len(text))
