"""kill -9 while appending: what was acknowledged is there, once, in order, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pykbroker.log.check import check_log
from tests.log.support import Config, open_log, read_values
from tests.scale import scaled, seeded

_WRITER = """
import os, sys
from pathlib import Path
from tests.log.support import Config, append, make_batch, open_log, value_for
log = open_log(Path(sys.argv[1]), Config(segment_bytes=30_000, index_interval_bytes=1000), clean=False)
assert log.damage == []
while True:
    base = log.log_end_offset
    append(log, make_batch([value_for(base + i, int(sys.argv[2])) for i in range(3)]))
    os.write(1, b"%d\\n" % log.log_end_offset)
    if base % 50 == 0:
        log.flush()
"""


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    rng = seeded(11)
    end = 0
    for _ in range(scaled(3, 60)):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path / "t"), str(rng.choice([10, 300, 9000]))],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert writer.stdout is not None
        for _ in range(rng.randrange(5, 400)):
            writer.stdout.readline()
        writer.kill()
        told = writer.stdout.read().split(b"\n")
        writer.wait()
        writer.stdout.close()
        acknowledged = max((int(line) for line in told[:-1]), default=end)
        check = check_log(tmp_path / "t", gaps=False)
        # What a kill may leave is noted: a write cut short on a page, a file that was not yet put in place.
        assert check.report.problems == []
        log = open_log(tmp_path / "t", Config(segment_bytes=30_000), clean=False)
        assert log.log_end_offset == check.end >= acknowledged >= end
        values, holes = read_values(log)
        assert holes == []
        assert sorted(values) == list(range(log.log_end_offset))
        assert all(value is not None and int(value[:8].rstrip(b".")) == o for o, value in values.items())
        end = log.log_end_offset
        log.close(clean=False)
        assert list(check_log(tmp_path / "t", gaps=False).report) == [], "a start has put it right"
