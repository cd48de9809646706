"""One held log rewritten in a process of its own: ``python -m pykbroker.delivery.settled_worker``.

As :mod:`pykbroker.log.cleaner_worker`, with a :class:`~pykbroker.log.settling.SettlingJob`.
"""

from __future__ import annotations

import sys

from pykbroker.delivery.settled import Needed
from pykbroker.log.cleaner_worker import serve
from pykbroker.log.compaction import Outcome
from pykbroker.log.settling import SettlingJob, settle

COMMAND = (sys.executable, "-m", "pykbroker.delivery.settled_worker")
"""What to run."""


def work(line: bytes) -> Outcome:
    """Do the job in ``line``."""
    job = SettlingJob.decode(line)
    return settle(job, Needed.decode(job.needed).settled())


if __name__ == "__main__":
    sys.exit(serve(work))
