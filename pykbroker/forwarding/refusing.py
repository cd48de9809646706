"""What a target refuses for good: records without a key where it is compacted, and what its validators say.

A validator that fails or is missing says nothing about a record: then the copies wait, as for a target that
is unavailable, and the log says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.executing import Executor
from pykbroker.forwarding.plan import Move
from pykbroker.forwarding.targets import TargetPort
from pykbroker.partitions.admission import Origin, Pipeline
from pykbroker.records.batch import read_header
from pykbroker.records.validate import RecordsError

NO_KEY = "it is compacted, the record has no key"
GONE = "there is no such topic any more"

_GONE = frozenset({ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION})


def is_gone(error: KafkaError) -> bool:
    """Whether a target that answers with ``error`` does not exist any more."""
    return error.code in _GONE


async def refusals(
    port: TargetPort,
    executor: Executor,
    move: Move,
    first: int,
    records: Mapping[int, Source],
    now_ms: int,
    *,
    validated: bool,
) -> dict[int, str]:
    """Why the target refuses which of the records from number ``first`` of the move on, by offset.

    ``validated``: whether its validators are asked.  Raises :class:`KafkaError` where that cannot be said
    now.
    """
    refused: dict[int, str] = {}
    if not port.rules(move.target).keyless:
        refused = {offset: NO_KEY for offset, record in records.items() if record.key is None}
    pipeline = port.validators(move.target) if validated else None
    if pipeline is not None:
        shown = [o for o in move.offsets[first:] if o in records and o not in refused]
        if shown:
            refused |= await _ask(pipeline, executor, move, shown, records, now_ms)
    return refused


async def _ask(
    pipeline: Pipeline,
    executor: Executor,
    move: Move,
    offsets: Sequence[int],
    records: Mapping[int, Source],
    now_ms: int,
) -> dict[int, str]:
    batch = await executor.preview(replace(move, offsets=tuple(offsets)), records)
    origin = Origin(topic=pipeline.topic, partition=move.target.partition, client_id=None, now_ms=now_ms)
    try:
        await pipeline.admit(origin, batch, read_header(batch))
    except RecordsError as error:
        return {offsets[index]: why for index, why in error.records}
    return {}
