"""The flush thread: completions arrive in the loop, in order, also those of the end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio

from pykbroker.log.errors import StorageError
from pykbroker.log.files import Files
from pykbroker.partitions.flusher import Flusher, NewLog


class Target:
    """Something to flush: says which thread did it, and fails when told to."""

    def __init__(self, reached: int, failure: StorageError | None = None) -> None:
        self.reached = reached
        self.failure = failure
        self.threads: list[threading.Thread] = []

    def flush(self) -> int:
        self.threads.append(threading.current_thread())
        if self.failure is not None:
            raise self.failure
        return self.reached


async def test_one_thread_flushes_and_the_loop_hears() -> None:
    flusher = Flusher()
    failure = StorageError("no")
    targets = [Target(1), Target(2, failure), Target(3)]
    heard: list[tuple[int, StorageError | None]] = []
    threads: set[threading.Thread] = set()
    all_heard = trio.Event()

    def done(reached: int, error: StorageError | None) -> None:
        heard.append((reached, error))
        threads.add(threading.current_thread())
        if len(heard) == 3:
            all_heard.set()

    for target in targets:
        flusher.request(target, done)
    await all_heard.wait()
    assert heard == [(1, None), (-1, failure), (3, None)]
    assert threads == {threading.current_thread()}
    flushing = {thread for target in targets for thread in target.threads}
    assert len(flushing) == 1
    assert threading.current_thread() not in flushing
    await flusher.aclose()


async def test_closing_waits_for_what_was_requested() -> None:
    flusher = Flusher()
    heard: list[int] = []
    for number in range(20):
        flusher.request(Target(number), lambda reached, _: heard.append(reached))
    await flusher.aclose()
    assert heard == list(range(20))


async def test_closing_without_a_request() -> None:
    await Flusher().aclose()


def test_a_new_log_names_its_directory_once(tmp_path: Path) -> None:
    class Counting(Files):
        synced = 0
        fails = True

        def sync_directory(self, path: str | Path) -> None:
            self.synced += 1
            if self.fails:
                raise OSError("no")

    files = Counting()
    new = NewLog(Target(5), tmp_path, files)
    with pytest.raises(StorageError):
        new.flush()
    files.fails = False
    assert (new.flush(), new.flush(), files.synced) == (5, 5, 2)
