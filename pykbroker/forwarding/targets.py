"""What copies go to: topics as deciding sees them, and partitions as executing does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pykbroker.catalog.image import HIDDEN_PREFIX
from pykbroker.catalog.retrying import delayed_name, flow_of
from pykbroker.components import PARTITIONER, PartitionContext
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.events import RecordsAppended
from pykbroker.forwarding.deciding import FinalTarget
from pykbroker.forwarding.plan import Place
from pykbroker.forwarding.reading import batches_in, bytes_of
from pykbroker.log.errors import CorruptRange
from pykbroker.partitions.admission import Pipeline
from pykbroker.plugins import ComponentFault, ComponentUnavailable, Plugins
from pykbroker.records.batch import read_header
from pykbroker.records.compression import CODEC_NAMES, Codec

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.delta import Delta
    from pykbroker.catalog.image import Topic
    from pykbroker.partitions.manager import Partitions
    from pykbroker.partitions.partition import Partition

DEFAULT = "default"
"""The partitioner of topics that name none; it cannot be blocked."""


class Directory:
    """Topics as targets, made ready once per state of the topic."""

    def __init__(self, catalog: Catalog, plugins: Plugins) -> None:
        self._catalog = catalog
        self._plugins = plugins
        self._known: dict[str, FinalTarget | None] = {}
        self._missing: dict[str, ComponentUnavailable] = {}

    def on_delta(self, delta: Delta) -> None:
        """Follow the catalog."""
        if delta.broker_settings:
            self._known.clear()
            self._missing.clear()
        for topic in (*delta.created, *delta.deleted, *delta.changed, *delta.reconfigured):
            self._known.pop(topic.name, None)
            self._missing.pop(topic.name, None)

    def find(self, name: str) -> FinalTarget | None:
        """The topic ``name``; None if it does not exist, belongs to the broker, or is an exchange."""
        try:
            return self._known[name]
        except KeyError:
            found = self._known[name] = self._made(name)
            return found

    def check_partitioner(self, name: str) -> None:
        """Raise POLICY_VIOLATION where the topic ``name`` has a partitioner that is missing."""
        self.find(name)
        if (missing := self._missing.get(name)) is not None:
            raise missing

    def _made(self, name: str) -> FinalTarget | None:
        topic = self._catalog.image.topics.get(name)
        if topic is None or topic.internal:
            return None
        config = self._catalog.topic_config(topic)
        if config.pykbroker_exchange_type:
            return None
        behind = self._where(topic)
        if behind is None:
            return None
        return FinalTarget(
            name=name,
            topic_id=behind.topic_id,
            partitions=len(topic.partitions),
            available=tuple(each.index for each in topic.partitions if each.leader >= 0),
            keyless=not config.compacted,
            choose=self._chooser(topic, config.pykbroker_partitioner or DEFAULT),
        )

    def _where(self, topic: Topic) -> Topic | None:
        """The topic to which copies for ``topic`` are appended: one that delays, and a retry topic, has a
        flow, and a copy waits there as what a client produces does."""
        flow = flow_of(topic)
        return topic if flow is None else self._catalog.image.topics.get(delayed_name(flow))

    def _chooser(self, topic: Topic, name: str) -> Callable[[PartitionContext], int]:
        """A partitioner that never fails: where it does, the default one answers, and where that does,
        the first partition is it."""
        last = self._chooser(topic, DEFAULT) if name != DEFAULT else _first
        try:
            partitioner = self._plugins.build(PARTITIONER, name, topic=topic.name, overrides=topic.overrides)
        except ComponentUnavailable as error:
            self._missing[topic.name] = error
            # Produce refuses what comes for such a topic; what is on its way already must go somewhere.
            return last
        guard = self._plugins.guard(PARTITIONER, name, topic.name)
        ask, call = partitioner.choose, guard.call

        def checked(ctx: PartitionContext) -> int:
            number = ask(ctx)
            if type(number) is not int or not 0 <= number < ctx.partitions:
                raise ValueError(f"{number!r:.80} is no partition of {ctx.topic}, which has {ctx.partitions}")
            return number

        def choose(ctx: PartitionContext) -> int:
            try:
                return call(checked, ctx)
            except ComponentFault:
                return last(ctx)

        return choose


def _first(ctx: PartitionContext) -> int:
    return 0


class Rules(NamedTuple):
    """What a target demands of a batch.  ``codec`` None: that of the originals."""

    max_bytes: int
    codec: int | None
    level: int | None
    stamps: bool
    keyless: bool


class TargetPort(Protocol):
    """Target partitions, wherever they are.

    All raise :class:`KafkaError`: UNKNOWN_TOPIC_ID or UNKNOWN_TOPIC_OR_PARTITION when the target is gone
    for good, anything else when it cannot be reached now.
    """

    def rules(self, target: Place) -> Rules:
        """What batches must be like."""
        ...

    def end(self, target: Place) -> int:
        """The log end offset."""
        ...

    def last_sequence(self, target: Place, producer_id: int, since: int) -> int:
        """The sequence of the last record that ``producer_id`` has appended; -1 if there is none.

        Where the target has forgotten the producer, its log is looked through from ``since`` on.
        """
        ...

    def append(self, target: Place, batch: bytearray, *, now_ms: int) -> int:
        """Append one batch; the offset that the high watermark must reach for it to count."""
        ...

    def settled(self, target: Place, offset: int) -> bool:
        """Whether the high watermark has reached ``offset``."""
        ...

    async def wait_settled(self, target: Place, offset: int) -> None:
        """Return when it has."""
        ...

    def validators(self, target: Place) -> Pipeline | None:
        """Who must agree to the copies, if anybody."""
        ...


class LocalTargets:
    """Target partitions that this broker leads."""

    def __init__(
        self,
        catalog: Catalog,
        partitions: Partitions,
        plugins: Plugins,
        on_appended: Callable[[RecordsAppended], None] | None = None,
    ) -> None:
        self._catalog = catalog
        self._partitions = partitions
        self._plugins = plugins
        self._on_appended = on_appended
        self._pipelines: dict[str, tuple[object, Pipeline]] = {}

    def _partition(self, target: Place) -> Partition:
        return self._partitions.get_by_id(*target)

    def rules(self, target: Place) -> Rules:
        config = self._partition(target).config
        codec: Codec | None = None
        level: int | None = None
        if config.compression_type != "producer":
            codec = CODEC_NAMES[config.compression_type]
            gzip = config.compression_gzip_level
            level = {
                Codec.GZIP: None if gzip == -1 else gzip,
                Codec.LZ4: config.compression_lz4_level,
                Codec.ZSTD: config.compression_zstd_level,
            }.get(codec)
        return Rules(
            config.max_message_bytes,
            codec,
            level,
            config.message_timestamp_type == "LogAppendTime",
            not config.compacted,
        )

    def end(self, target: Place) -> int:
        return self._partition(target).log_end_offset

    def last_sequence(self, target: Place, producer_id: int, since: int) -> int:
        partition = self._partition(target)
        entry = partition.log.producers.get(producer_id)
        if entry is not None:
            return entry.last_sequence
        return _last_sequence_in_log(partition, producer_id, since)

    def append(self, target: Place, batch: bytearray, *, now_ms: int) -> int:
        partition = self._partition(target)
        header = read_header(batch)
        appended = partition.append_as_leader(batch, (header,), now_ms=now_ms, internal=True)
        # What is on its way through logs that nobody sees is no news.
        if self._on_appended is not None and not partition.topic.startswith(HIDDEN_PREFIX):
            self._on_appended(
                RecordsAppended(
                    topic=partition.topic,
                    partition=partition.index,
                    base_offset=appended.base_offset,
                    last_offset=appended.last_offset,
                    size=header.size,
                    timestamp_ms=header.max_timestamp,
                )
            )
        return appended.next_offset

    def settled(self, target: Place, offset: int) -> bool:
        return self._partition(target).high_watermark >= offset

    async def wait_settled(self, target: Place, offset: int) -> None:
        await self._partition(target).wait_high_watermark(offset)

    def validators(self, target: Place) -> Pipeline | None:
        partition = self._partition(target)
        names = partition.config.pykbroker_validators
        if not names:
            return None
        known = self._pipelines.get(partition.topic)
        if known is None or known[0] is not partition.config:
            topic = self._catalog.image.topics.get(partition.topic)
            if topic is None:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            pipeline = Pipeline(self._plugins, partition.topic, validators=names, overrides=topic.overrides)
            known = self._pipelines[partition.topic] = (partition.config, pipeline)
        return known[1]


def _last_sequence_in_log(partition: Partition, producer_id: int, since: int) -> int:
    """By the headers of the batches from ``since`` on; damage is passed over."""
    at, last = max(since, partition.log_start_offset), -1
    while at < partition.log_end_offset:
        try:
            found = partition.log.read(at, 1024 * 1024, partition.log_end_offset)
        except CorruptRange as damage:
            at = max(damage.hole.next_offset, at + 1)
            continue
        for _, header in batches_in(bytes_of(found.records), partition):
            if header.producer_id == producer_id and header.base_sequence >= 0:
                last = header.last_sequence
        if found.next_offset <= at:
            break
        at = found.next_offset
    return last
