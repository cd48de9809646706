"""A data directory has one broker at a time: who holds it, and where that broker listens.

``.lock`` is held with flock for as long as the process lives, so a killed broker leaves no stale lock
behind; its text says who holds it.  ``pykbroker.json`` tells other programs where to connect and is
there while the broker listens.  ``meta.properties`` says whose data it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pykbroker.log import checkpoints

LOCK_FILE = ".lock"
INFO_FILE = "pykbroker.json"


class StartError(Exception):
    """The broker cannot start; ``str()`` says why, :attr:`hint` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class DataDirectory:
    """The data directory of a running broker, from :meth:`hold` to :meth:`release`."""

    def __init__(self, path: Path, ready_file: Path | None = None) -> None:
        self.path = path
        self._ready_file = ready_file
        self.pid = os.getpid()
        self._lock_fd = -1

    def hold(self) -> None:
        """Make the directory and lock it.

        Raises :class:`StartError`, before anything was written, when another broker has it.
        """
        if self._ready_file is not None and not self._ready_file.parent.is_dir():
            raise StartError(
                f"the ready file {self._ready_file} cannot be written: there is no such directory",
                "Give a path in a directory that exists: --ready-file PATH",
            )
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
            raise _held(self.path, holder) from None
        self._lock_fd = fd
        with self._telling():
            # Left by a broker that was killed: nobody may take them for ours.
            for stale in self._published():
                stale.unlink(missing_ok=True)
            self._write_lock({"pid": self.pid})

    def _published(self) -> list[Path]:
        info = self.path / INFO_FILE
        return [info] if self._ready_file is None else [info, self._ready_file]

    def publish(self, info: Mapping[str, object]) -> None:
        """Write ``pykbroker.json``, and the same to the ready file: readers see all of it or nothing.

        Raises :class:`StartError`.
        """
        text = json.dumps(info, indent=2) + "\n"
        with self._telling():
            self._write_lock({"pid": self.pid, "listeners": info["listeners"]})
            for path in self._published():
                draft = path.with_name(f"{path.name}.{self.pid}.tmp")
                draft.write_text(text)
                draft.replace(path)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What cannot be written is an operator's trouble, not a bug."""
        try:
            yield
        except OSError as failure:
            raise StartError(
                f"data directory {self.path} cannot be used: {failure.strerror}",
                "Look for a full disk, permissions, or a failing disk",
            ) from failure

    def release(self) -> None:
        """Take what was published away and let the next broker in.  Does nothing when not held."""
        if self._lock_fd >= 0:
            for published in self._published():
                published.unlink(missing_ok=True)
            os.ftruncate(self._lock_fd, 0)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _write_lock(self, entry: Mapping[str, object]) -> None:
        text = json.dumps(entry).encode()
        os.pwrite(self._lock_fd, text, 0)
        os.ftruncate(self._lock_fd, len(text))


def _held(path: Path, holder: str) -> StartError:
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
        f"data directory {path} is in use by {who}",
        f"{stop}, or give this one a directory of its own: --data-dir DIR",
    )


@contextmanager
def unused(path: Path) -> Iterator[None]:
    """Keep brokers off the data directory while it is read; writes nothing.

    Raises :class:`StartError` when a broker has it, :class:`OSError`.
    """
    try:
        fd = os.open(path / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # a copy, or never used
        yield
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(path, os.pread(fd, 4096, 0).decode(errors="replace")) from None
        yield
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What ``meta.properties`` says; ``new`` when it was written just now."""

    cluster_id: str
    new: bool


def identify(data_dir: Path, node_id: int) -> Identity:
    """Read ``meta.properties``, or write it for a new data directory.

    Raises :class:`StartError` when the directory is another node's, :class:`OSError`.
    """
    path = data_dir / checkpoints.META_PROPERTIES
    restore = "Restore it from a backup; it holds the ids of cluster and node"
    try:
        found = checkpoints.read_meta_properties(data_dir)
    except ValueError as error:
        raise StartError(f"{path} cannot be read: {error}", restore) from error
    if not found:
        cluster_id = checkpoints.format_uuid(_random_id())
        properties = {
            "version": "1",
            "cluster.id": cluster_id,
            "node.id": str(node_id),
            "directory.id": checkpoints.format_uuid(_random_id()),
        }
        checkpoints.write_meta_properties(data_dir, properties)
        return Identity(cluster_id=cluster_id, new=True)
    owner = found.get("node.id", str(node_id))
    if owner != str(node_id):
        raise StartError(
            f"data directory {data_dir} belongs to node {owner}, the settings say {node_id}",
            f"Start with --set node.id={owner}, or give another --data-dir",
        )
    if "cluster.id" not in found:
        raise StartError(f"{path} has no cluster.id", restore)
    return Identity(cluster_id=found["cluster.id"], new=False)


def _random_id() -> bytes:
    """16 random bytes whose text does not start with ``-``, which command lines take for an option."""
    while True:
        raw = secrets.token_bytes(16)
        if not checkpoints.format_uuid(raw).startswith("-"):
            return raw
