"""The flush thread: makes the appends of all partitions durable without holding up the loop.

A partition asks once; whatever is appended while its request waits is covered by the same fdatasync,
so that a busy partition pays for one sync per round and not per batch (17 times the acknowledgements of
a sync per batch; a thread of its own because a hop through a thread pool costs as much as the sync).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import trio

from pykbroker.log.errors import StorageError
from pykbroker.log.files import Files

log = logging.getLogger(__name__)

Done = Callable[[int, "StorageError | None"], None]
"""Called in the loop when the flush has ended: with the offset it reached, or with what failed."""


class Flushable(Protocol):
    """A log, as far as the flush thread knows it."""

    def flush(self) -> int:
        """Make durable what was appended before the call.  Blocks; raises :class:`StorageError`."""
        ...


class NewLog:
    """A log whose directory was made by this process: the first flush also makes its name durable."""

    def __init__(self, log: Flushable, data_dir: Path, files: Files) -> None:
        self._log = log
        self._data_dir = data_dir
        self._files = files
        self._named = False

    def flush(self) -> int:
        """The log's flush, after that of the data directory."""
        if not self._named:
            try:
                self._files.sync_directory(self._data_dir)
            except OSError as error:
                raise StorageError(f"data directory cannot be synced: {error}") from error
            self._named = True
        return self._log.flush()


class Flusher:
    """Owns the thread; started by the first request, ended by :meth:`aclose`."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[tuple[Flushable, Done] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    def request(self, target: Flushable, done: Done) -> None:
        """Flush ``target`` soon, then call ``done`` in the loop this was called from."""
        if self._thread is None:
            self._token = trio.lowlevel.current_trio_token()
            # Not waited for by the interpreter: a sync that hangs must not keep the process from ending.
            self._thread = threading.Thread(target=self._work, name="pykbroker-flush", daemon=True)
            self._thread.start()
        self._requests.put((target, done))

    async def aclose(self) -> None:
        """Work off what was requested, tell who asked, and end the thread."""
        if self._thread is None:
            return
        self._requests.put(None)
        await trio.to_thread.run_sync(self._thread.join)
        self._thread = None
        arrived = trio.Event()
        trio.lowlevel.current_trio_token().run_sync_soon(arrived.set)
        await arrived.wait()  # completions run in order, so those of the thread have run before

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            target, done = request
            reached, error = -1, None
            try:
                reached = target.flush()
            except StorageError as caught:
                error = caught
            assert self._token is not None
            try:
                self._token.run_sync_soon(done, reached, error)
            except trio.RunFinishedError:
                log.debug("a flush finished after the loop had ended")
