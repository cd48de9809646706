"""The audit log: a queue between the hooks, which must be quick, and the file, which may not be."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import trio

from pykbroker import ServiceContext

log = logging.getLogger(__name__)

WAITING = 10_000
"""Events that may wait for the disk; more are dropped and counted."""


class Journal:
    """One open audit log: the events that wait to be written to ``file``."""

    def __init__(self, file: Path, kinds: Iterable[str], time_ms: Callable[[], int]) -> None:
        self.file = file
        self.dropped = 0
        self._kinds = frozenset(kinds)
        self._time_ms = time_ms
        self._waiting: deque[dict[str, object]] = deque()
        self._more = trio.Event()

    def note(self, kind: str, fields: dict[str, object]) -> None:
        """Keep an event, if its kind is kept at all."""
        if kind not in self._kinds:
            return
        if len(self._waiting) >= WAITING:
            self.dropped += 1
            return
        self._waiting.append({"time_ms": self._time_ms(), "event": kind, **fields})
        self._more.set()

    async def wait(self) -> None:
        """Wait until there is something to write."""
        await self._more.wait()

    def write(self) -> None:
        """Append what waits to the file.  Blocks; raises OSError, and then nothing is forgotten."""
        self._more = trio.Event()
        lines = [json.dumps(event, ensure_ascii=False) + "\n" for event in tuple(self._waiting)]
        if lines:
            with self.file.open("a", encoding="utf-8", errors="surrogateescape") as out:
                out.writelines(lines)
        for _ in lines:
            self._waiting.popleft()


_open: list[Journal] = []


def note(kind: str, **fields: object) -> None:
    """Keep an event in every open audit log; usually there is one or none."""
    for journal in _open:
        journal.note(kind, fields)


class Audit:
    """The service: writes the audit log while the broker runs."""

    async def run(self, ctx: ServiceContext) -> None:
        """Write until cancelled, and what still waits then; return at once where no file is set."""
        name = ctx.settings.text("file")
        if not name:
            return
        journal = Journal(Path(name), ctx.settings.texts("events"), ctx.time_ms)
        journal.file.parent.mkdir(parents=True, exist_ok=True)
        _open.append(journal)
        log.info("audit log: file=%s events=%s", name, ",".join(ctx.settings.texts("events")))
        try:
            while True:
                await journal.wait()
                await trio.to_thread.run_sync(journal.write)
        finally:
            _open.remove(journal)
            journal.write()
            if journal.dropped:
                log.warning("the audit log could not keep up: dropped=%d", journal.dropped)
