"""One compaction in a process of its own: ``python -m pykbroker.log.cleaner_worker``.

A :class:`~pykbroker.log.compaction.Job` as JSON on standard input, an
:class:`~pykbroker.log.compaction.Outcome` on standard output, or ``{"error": "..."}`` and exit
status 1.  The broker's loop is not held: neither its time nor its GIL.
"""

from __future__ import annotations

import json
import os
import sys

from pykbroker.log.compaction import Job, compact

COMMAND = (sys.executable, "-m", "pykbroker.log.cleaner_worker")
"""What to run."""

_NICENESS = 10
"""Compaction is never urgent; clients' requests are."""


def main() -> int:
    """Read a job, do it, print the outcome; the exit status."""
    os.nice(_NICENESS)
    try:
        outcome = compact(Job.decode(sys.stdin.buffer.read()))
    except OSError as e:
        sys.stdout.write(json.dumps({"error": str(e)}))
        return 1
    sys.stdout.buffer.write(outcome.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
