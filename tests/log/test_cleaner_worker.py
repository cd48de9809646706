"""The process that compacts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pykbroker.log.cleaner_worker import COMMAND
from pykbroker.log.compaction import Job


def test_a_worker_does_not_outlive_its_broker(tmp_path: Path) -> None:
    """The next broker compacts the same log: two workers would write to files of the same names, one of
    which is a live segment by then."""
    os.mkfifo(tmp_path / "00000000000000000000.log")  # the worker waits in the midst of its job
    job = Job(
        directory=str(tmp_path),
        segments=[0],
        next_base=10,
        dirty_start=0,
        end=10,
        now_ms=0,
        delete_retention_ms=0,
    )
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as worker:
        assert worker.stdin is not None
        worker.stdin.write(job.encode() + b"\n")
        worker.stdin.close()  # as the system does when the broker is killed
        try:
            assert worker.wait(timeout=60) == 3
        finally:
            worker.kill()


@pytest.mark.parametrize("cut", [0, 20, None])
def test_a_worker_whose_broker_is_killed_meanwhile_prints_nothing(tmp_path: Path, cut: int | None) -> None:
    """Its job may have come in part, and nobody may be there to hear of the outcome."""
    job = Job(
        directory=str(tmp_path),
        segments=[],
        next_base=0,
        dirty_start=0,
        end=0,
        now_ms=0,
        delete_retention_ms=0,
    )
    heard, said = os.pipe()
    os.close(heard)
    line = job.encode() + b"\n" if cut is None else job.encode()[:cut]
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.PIPE) as worker:
        os.close(said)
        assert worker.stdin is not None
        assert worker.stderr is not None
        worker.stdin.write(line)
        if cut is None:
            worker.stdin.flush()
        else:
            worker.stdin.close()
        assert (worker.stderr.read(), worker.wait(timeout=60)) == (b"", 3)
