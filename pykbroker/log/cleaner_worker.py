"""One compaction in a process of its own: ``python -m pykbroker.log.cleaner_worker``.

A :class:`~pykbroker.log.compaction.Job` as one line of JSON on standard input, an
:class:`~pykbroker.log.compaction.Outcome` on standard output, or ``{"error": "..."}`` and exit
status 1.  The broker's loop is not held: neither its time nor its GIL.

The broker keeps standard input open.  When it ends, the broker is gone, and the worker must be gone
too: the next broker's worker writes files of the same names, and what has become a live segment by
then would be written to by both.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable

from pykbroker.log.compaction import Job, Outcome, compact

COMMAND = (sys.executable, "-m", "pykbroker.log.cleaner_worker")
"""What to run."""

_NICENESS = 10
"""Compaction is never urgent; clients' requests are."""
_ORPHANED = 3
"""Exit status when the broker has gone."""


def main() -> int:
    """Compact."""
    return serve(lambda line: compact(Job.decode(line)))


def serve(work: Callable[[bytes], Outcome]) -> int:
    """Read a job, do it, print the outcome; the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the broker, which ends us
    os.nice(_NICENESS)
    line = sys.stdin.buffer.readline()
    if line.endswith(b"\n"):  # else whoever asks has closed it already, and waits for the answer
        threading.Thread(target=_end_with_the_broker, daemon=True).start()
    try:
        outcome = work(line)
    except OSError as e:
        return _answer(json.dumps({"error": str(e)}).encode(), 1)
    except ValueError:
        if line.endswith(b"\n"):
            raise
        return _ORPHANED  # the broker was killed before it had written all of the job
    return _answer(outcome.encode(), 0)


def _answer(text: bytes, status: int) -> int:
    try:
        sys.stdout.buffer.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(_ORPHANED)  # an ordinary exit would try to write it once more
    return status


def _end_with_the_broker() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
