"""Apache Kafka's DumpLogSegments finds every batch valid and every index sound.

Needs java and Kafka's jars (``PYKBROKER_KAFKA_LIBS``); the stories with real clients are in interop/.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from interop.kafka.jars import LIBS_VARIABLE, MissingToolError
from interop.kafka.tools import check_index_sanity, dump_log, verify_index
from pykbroker.log.log import Log
from tests.log.support import NOW, Config, append, make_batch, open_log

CONFIG = Config(segment_bytes=20_000, index_interval_bytes=300)


def write(log: Log, seed: int) -> None:
    """Batches of an idempotent producer with timestamps in no order."""
    rng = random.Random(seed)
    for i in range(200):
        count = rng.randrange(1, 4)
        entry = log.producers.get(3)
        batch = make_batch(
            [b"x" * rng.randrange(200)] * count,
            timestamps=[NOW + rng.randrange(100_000) + i for _ in range(count)],
            producer_id=3,
            producer_epoch=0,
            base_sequence=0 if entry is None else entry.last_sequence + 1,
        )
        append(log, batch, epoch=i // 70)


def test_after_rolls_cuts_and_crashes(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> None:
    if not os.environ.get(LIBS_VARIABLE):
        pytest.skip(f"{LIBS_VARIABLE} names no folder with Kafka's jars")
    for seed, name in enumerate(["clean", "cut", "recovered", "fresh"]):
        log = open_log(tmp_path / f"{name}-0", CONFIG, clean=False)
        write(log, seed)
        if name == "cut":
            log.truncate_to(log.log_end_offset - 77)
        if name == "recovered":
            log.close(clean=False)
            log = open_log(tmp_path / f"{name}-0", CONFIG, clean=False)
            append(log, make_batch([b"after"], timestamp_ms=NOW))
        log.close(clean=name != "fresh")
    files = {s: sorted(tmp_path.glob(f"*/*.{s}")) for s in ("log", "index", "timeindex", "snapshot")}
    assert len(files["index"]) > 8
    try:
        dump = dump_log(*files["log"], *files["snapshot"])
    except MissingToolError as e:
        unavailable(str(e))
    assert dump.problems == []
    assert dump.output.count("isvalid: true") > 700
    assert "producerId: 3" in dump.output
    assert verify_index(*files["index"], *files["timeindex"]).problems == []
    assert check_index_sanity(*files["index"], *files["timeindex"]).problems == []
