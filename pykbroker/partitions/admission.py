"""What the plugins of a topic do to a batch before it is appended.

A topic that names interceptors or validators has a :class:`Pipeline`, built once for its settings.  A
batch passes the interceptors first, in the order in which the topic names them, and then the
validators, so that what is checked is what will be stored.  A batch goes through as a whole or not at
all: the number of records never changes, nor do sequences, codec and producer.

=============================================  ==================================================
a component that the topic names is missing    POLICY_VIOLATION, with its name
a validator names records                      INVALID_RECORD, with the records
any of them raises, answers nonsense,          UNKNOWN_SERVER_ERROR, with plugin and hook
or takes longer than the timeout
records that cannot be decoded                 INVALID_RECORD
=============================================  ==================================================

Topics without plugins are not in :attr:`Admission.topics`; that is all they pay for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import trio

from pykbroker.catalog.catalog import Catalog
from pykbroker.catalog.delta import Delta
from pykbroker.catalog.image import Topic
from pykbroker.components import (
    INTERCEPTOR,
    VALIDATOR,
    BatchView,
    ComponentKind,
    InterceptContext,
    RecordError,
    ValidationContext,
)
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.plugins import ComponentFault, Guard, Plugins
from pykbroker.records.batch import BatchError, BatchHeader, Buffer, read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import iter_records
from pykbroker.records.walk import RecordsError

C = TypeVar("C")
T = TypeVar("T")

MAX_NAMED = 1000
"""Refused records that one answer names: what a batch can hold would make it as large as the batch."""
MAX_REASON = 500
"""Characters of the reason for one record."""
LARGE = 64 * 1024
"""Bytes of records beyond which decoding and encoding them is worth a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a batch comes from and where it goes; ``client_id`` None is the broker itself."""

    topic: str
    partition: int
    client_id: str | None
    now_ms: int


class Admission:
    """The pipelines of all topics that have one.  Used in the loop's thread only."""

    def __init__(self, catalog: Catalog, plugins: Plugins) -> None:
        self.topics: dict[str | bytes, Pipeline] = {}
        """By name and by topic id; topics without plugins are not here."""
        self._catalog = catalog
        self._plugins = plugins
        for topic in catalog.image.topics.values():
            self._take(topic)

    def on_delta(self, delta: Delta) -> None:
        """Follow the catalog."""
        for topic in delta.deleted:
            self._forget(topic)
        changed = delta.after.topics.values() if delta.broker_settings else delta.created + delta.reconfigured
        for topic in changed:
            self._forget(topic)
            self._take(topic)

    def of(self, topic: str | bytes) -> Pipeline | None:
        """What batches for this topic (name or id) have to pass, if anything."""
        return self.topics.get(topic)

    def _take(self, topic: Topic) -> None:
        config = self._catalog.topic_config(topic)
        if config.pykbroker_interceptors or config.pykbroker_validators:
            pipeline = Pipeline(
                self._plugins,
                topic.name,
                interceptors=config.pykbroker_interceptors,
                validators=config.pykbroker_validators,
                overrides=topic.overrides,
            )
            self.topics[topic.name] = self.topics[topic.topic_id] = pipeline

    def _forget(self, topic: Topic) -> None:
        self.topics.pop(topic.topic_id, None)
        self.topics.pop(topic.name, None)


class Pipeline:
    """The interceptors and validators of one topic; the objects are made when first needed."""

    def __init__(
        self,
        plugins: Plugins,
        topic: str,
        *,
        interceptors: Sequence[str] = (),
        validators: Sequence[str] = (),
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        self._plugins = plugins
        self.topic = topic
        self._names = (tuple(interceptors), tuple(validators))
        self._overrides = dict(overrides or {})
        self._built: tuple[tuple[InterceptorCall, ...], tuple[ValidatorCall, ...]] | None = None

    async def admit(self, origin: Origin, data: Buffer, header: BatchHeader) -> bytearray | None:
        """Let the one batch in ``data`` in: the batch to append in its place, or None for itself.

        Waits only for a component that waits.  Raises :class:`KafkaError` as the table above says.
        """
        interceptors, validators = self._components()
        changed: bytearray | None = None
        try:
            if interceptors:
                changed = await self._intercept(interceptors, origin, data, header)
            if validators:
                batch = (
                    BatchView(data, header) if changed is None else BatchView(changed, read_header(changed))
                )
                await self._validate(validators, origin, batch)
        except ComponentFault as fault:
            raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, str(fault)) from fault
        except BatchError as error:
            raise KafkaError(ErrorCode.INVALID_RECORD, f"Records cannot be decoded: {error}") from error
        return changed

    def _components(self) -> tuple[tuple[InterceptorCall, ...], tuple[ValidatorCall, ...]]:
        if self._built is None:
            interceptors, validators = self._names
            self._built = (
                tuple(InterceptorCall(*self._build(INTERCEPTOR, name)) for name in interceptors),
                tuple(ValidatorCall(*self._build(VALIDATOR, name)) for name in validators),
            )
        return self._built

    def _build(self, kind: ComponentKind[T], name: str) -> tuple[T, Guard]:
        built = self._plugins.build(kind, name, topic=self.topic, overrides=self._overrides)
        return built, self._plugins.guard(kind, name, self.topic)

    async def _intercept(
        self, interceptors: Sequence[InterceptorCall], origin: Origin, data: Buffer, header: BatchHeader
    ) -> bytearray | None:
        came = records = await _maybe_in_thread(len(data), lambda: _decoded(data))
        for interceptor in interceptors:
            ctx = InterceptContext(
                topic=origin.topic,
                partition=origin.partition,
                client_id=origin.client_id,
                records=records,
                header=header,
                now_ms=origin.now_ms,
            )
            records = await interceptor(ctx)
        if records is came:
            return None
        return await _maybe_in_thread(len(data), lambda: bytearray(_encoded(records, header)))

    async def _validate(self, validators: Sequence[ValidatorCall], origin: Origin, batch: BatchView) -> None:
        ctx = ValidationContext(
            topic=origin.topic,
            partition=origin.partition,
            client_id=origin.client_id,
            batch=batch,
            now_ms=origin.now_ms,
        )
        wrong: dict[int, str] = {}
        for validator in validators:
            for error in await validator(ctx):
                before = wrong.get(error.index)
                wrong[error.index] = f"{before}; {error.message}" if before else error.message
        if wrong:
            named = [(index, wrong[index][:MAX_REASON]) for index in sorted(wrong)[:MAX_NAMED]]
            raise RecordsError(
                ErrorCode.INVALID_RECORD,
                f"{len(wrong)} of {batch.header.record_count} records were refused: "
                f"record {named[0][0]}: {named[0][1]}",
                named,
            )


class InterceptorCall:
    """One interceptor of one topic, its answers held to what they may be."""

    __slots__ = ("_guard", "_intercept")

    def __init__(self, interceptor: object, guard: Guard) -> None:
        self._intercept: Callable[[InterceptContext], object] = getattr(interceptor, INTERCEPTOR.methods[0])
        self._guard = guard

    async def __call__(self, ctx: InterceptContext) -> Sequence[RecordData]:
        answer = await self._guard.wait(self._intercept, ctx)
        if answer is None:
            return ctx.records
        if not isinstance(answer, Sequence):
            raise self._guard.fault(f"gave {type(answer).__name__} in place of a sequence of RecordData")
        if len(answer) != len(ctx.records):
            raise self._guard.fault(f"gave {len(answer)} records in place of {len(ctx.records)}")
        for index, record in enumerate(answer):
            why = _malformed(record)
            if why:
                raise self._guard.fault(f"gave a record {index} {why}")
        return answer


class ValidatorCall:
    """One validator of one topic, its answers held to what they may be."""

    __slots__ = ("_check", "_guard")

    def __init__(self, validator: object, guard: Guard) -> None:
        self._check = _collecting(getattr(validator, VALIDATOR.methods[0]))
        self._guard = guard

    async def __call__(self, ctx: ValidationContext) -> Sequence[RecordError]:
        # Records that do not decode are the client's fault, not the plugin's.
        answer = await self._guard.wait(self._check, ctx, expected=BatchError)
        if answer is None:
            return ()
        if not isinstance(answer, tuple):
            raise self._guard.fault(f"gave {type(answer).__name__} in place of RecordErrors")
        for error in answer:
            if not isinstance(error, RecordError) or not isinstance(error.message, str):
                raise self._guard.fault(f"gave {error!r:.100} in place of a RecordError")
            if type(error.index) is not int or not 0 <= error.index < ctx.batch.header.record_count:
                raise self._guard.fault(f"named record {error.index!r:.20} of a batch that has none such")
        return answer


def _collecting(check: Callable[[C], object]) -> Callable[[C], object]:
    """``check`` with its answer taken out of a generator, inside the guard."""

    def collected(ctx: C) -> object:
        answer = check(ctx)
        return _awaited(answer) if isinstance(answer, Awaitable) else _listed(answer)

    return collected


async def _awaited(answer: Awaitable[object]) -> object:
    return _listed(await answer)


def _listed(answer: object) -> object:
    return tuple(answer) if isinstance(answer, Iterable) and not isinstance(answer, str) else answer


async def _maybe_in_thread(size: int, work: Callable[[], T]) -> T:
    """``work()``, in a thread if ``size`` bytes would hold up the loop."""
    return work() if size <= LARGE else await trio.to_thread.run_sync(work)


def _decoded(data: Buffer) -> Sequence[RecordData]:
    return tuple(RecordData(r.key, r.value, r.timestamp, r.headers) for r in iter_records(data))


def _encoded(records: Sequence[RecordData], header: BatchHeader) -> bytes:
    return encode_batch(
        [record._replace(offset_delta=None) for record in records],
        timestamp_ms=header.base_timestamp,
        codec=header.codec,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        transactional=header.is_transactional,
    )


def _malformed(record: object) -> str:
    """What is wrong with an interceptor's record, as the end of a sentence; empty if nothing is."""
    if not isinstance(record, RecordData):
        return f"that is a {type(record).__name__}"
    if not isinstance(record.key, bytes | None) or not isinstance(record.value, bytes | None):
        return "whose key or value is not bytes"
    if record.timestamp_ms is not None and (type(record.timestamp_ms) is not int or record.timestamp_ms < 0):
        return f"with timestamp {record.timestamp_ms!r:.30}"
    try:
        good = all(
            isinstance(name, str) and isinstance(value, bytes | None) for name, value in record.headers
        )
    except (TypeError, ValueError):
        good = False
    return "" if good else "whose headers are not pairs of text and bytes"
