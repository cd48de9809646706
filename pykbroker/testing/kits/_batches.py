"""The kits for validators and interceptors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import trio

from pykbroker.components import (
    INTERCEPTOR,
    VALIDATOR,
    BatchView,
    InterceptContext,
    Interceptor,
    RecordError,
    ValidationContext,
    Validator,
)
from pykbroker.partitions.admission import InterceptorCall, ValidatorCall
from pykbroker.plugins import ComponentFault
from pykbroker.plugins.containment import Faults, Guard
from pykbroker.plugins.watchdog import Watchdog
from pykbroker.records.batch import read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.compression import Codec
from pykbroker.testing.kits._making import NOW_MS, TOPIC, KitFailure, Make, Values, make

T = TypeVar("T")

TIMEOUT_S = 5.0
SAMPLES: Sequence[Sequence[RecordData]] = (
    [RecordData(b"key", b"value", NOW_MS)],
    [RecordData(None, None, NOW_MS)],
    [RecordData(b"", b"", 0)],
    [RecordData(b"\xff", b"\xfe\xff", NOW_MS, (("h", None), ("h", b""), ("", b"\xff"), ("é", b"1")))],
    [RecordData(None, b'{"a": [1, {"b": null}], "id": "7"}', NOW_MS)],
    [RecordData(b"k", b"[" * 100_000, NOW_MS)],
    [RecordData(str(i).encode(), b"x" * i, NOW_MS + i) for i in range(500)],
)


def check_validator(
    component: Make[Validator],
    *,
    settings: Values | None = None,
    accepts: Sequence[RecordData] = (),
    refuses: Sequence[RecordData] = (),
) -> None:
    """Whatever the batch, ``check`` gives RecordErrors of records that are in it, the same each time.

    ``accepts`` and ``refuses`` are records that must be let in and kept out, each in a batch of its own
    and all together.
    """
    check = ValidatorCall(make(VALIDATOR, component, settings), _guard("check()"))
    for records in SAMPLES:
        for batch in _batches(records):
            first, second = _refused(check, batch), _refused(check, batch)
            if first != second:
                raise KitFailure(f"check() refuses {first} the first time and {second} the second time")
    for record in accepts:
        if refused := _refused(check, _encoded([record])):
            raise KitFailure(f"check() refuses {record!r:.300}: {refused[0].message}")
    for record in refuses:
        if not _refused(check, _encoded([record])):
            raise KitFailure(f"check() lets in {record!r:.300}")
    if accepts and refuses:
        named = {error.index for error in _refused(check, _encoded([*accepts, *refuses]))}
        wanted = set(range(len(accepts), len(accepts) + len(refuses)))
        if named != wanted:
            raise KitFailure(f"check() names records {sorted(named)} of a batch, not {sorted(wanted)}")


def check_interceptor(
    component: Make[Interceptor],
    *,
    settings: Values | None = None,
    turns: Sequence[tuple[RecordData, RecordData]] = (),
) -> None:
    """Whatever the batch, ``intercept`` gives as many records as it got, or None, and leaves what it got
    alone.

    ``turns`` are records and what must become of them (timestamps None: any).
    """
    intercept = InterceptorCall(make(INTERCEPTOR, component, settings), _guard("intercept()"))
    for records in SAMPLES:
        given = tuple(records)
        changed = _intercepted(intercept, given)
        if given != tuple(records):
            raise KitFailure("intercept() changed the records that it was given")
        _encoded(changed)
    for before, after in turns:
        (became,) = _intercepted(intercept, (before,))
        if after.timestamp_ms is None:
            became = became._replace(timestamp_ms=None)
        if became._replace(headers=tuple(became.headers)) != after._replace(headers=tuple(after.headers)):
            raise KitFailure(f"intercept() made {became!r:.300} of {before!r:.300}, not {after!r:.300}")


def _batches(records: Sequence[RecordData]) -> Iterator[bytes]:
    for codec in (Codec.NONE, Codec.GZIP, Codec.ZSTD):
        yield _encoded(records, codec)


def _encoded(records: Sequence[RecordData], codec: int = Codec.NONE) -> bytes:
    return encode_batch([r._replace(offset_delta=None) for r in records], timestamp_ms=NOW_MS, codec=codec)


def _refused(check: ValidatorCall, batch: bytes) -> Sequence[RecordError]:
    ctx = ValidationContext(
        topic=TOPIC,
        partition=0,
        client_id="kit",
        batch=BatchView(batch, read_header(batch)),
        now_ms=NOW_MS,
    )
    return _run(lambda: check(ctx))


def _intercepted(intercept: InterceptorCall, records: Sequence[RecordData]) -> Sequence[RecordData]:
    ctx = InterceptContext(
        topic=TOPIC,
        partition=0,
        client_id="kit",
        records=records,
        header=read_header(_encoded(records)),
        now_ms=NOW_MS,
    )
    return _run(lambda: intercept(ctx))


def _guard(what: str) -> Guard:
    return Guard(Faults(Watchdog(), TIMEOUT_S), "under test", what, TOPIC)


def _run(work: Callable[[], Awaitable[T]]) -> T:
    """What ``work`` gives, awaited as a broker would; a fault of the component is the kit's failure."""

    async def awaited() -> T:
        return await work()

    try:
        return trio.run(awaited)
    except ComponentFault as fault:
        raise KitFailure(str(fault)) from fault
