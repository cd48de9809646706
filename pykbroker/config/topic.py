"""The settings of a topic: Kafka 4.3.1's 33, with its defaults, and ours under ``pykbroker.``.

A topic's own value wins; otherwise the broker setting named as its synonym gives the default.  Some
synonyms are chains in different units (``log.retention.ms``, else ``.minutes``, else ``.hours``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from pykbroker.config import extensions
from pykbroker.config.setting import (
    LONG_MAX,
    ConfigError,
    Kind,
    Setting,
    Value,
    setting,
    settings_of,
    unknown,
)

if TYPE_CHECKING:
    from pykbroker.config.broker import BrokerConfig

MINUTE_MS = 60 * 1000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

_THROTTLED = r"\*|[0-9]+:[0-9]+"
_THROTTLED_TEXT = "* or a comma-separated list of partition:broker"
_NO_EFFECT = "Accepted and stored; it has no effect here yet."
_NAME = r"[A-Za-z0-9_-]+"
_NAME_TEXT = "a name of letters, digits, - and _"
_NAMES_TEXT = "a comma-separated list of names"
_TOPIC_NAME = r"[A-Za-z0-9._-]{0,249}"
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """The effective settings of one topic; times in ms, sizes in bytes.  An instance without
    arguments has Kafka's defaults."""

    cleanup_policy: frozenset[str] = setting(
        Kind.LIST,
        frozenset({"delete"}),
        """What happens to old segments: `delete` drops them by retention, `compact` keeps the last
        record of each key, both do both. Empty keeps everything.""",
        choices=("compact", "delete"),
        synonyms=["log.cleanup.policy"],
    )
    compression_gzip_level: int = setting(
        Kind.INT,
        -1,
        "Level for gzip when `compression.type` is gzip: 1 to 9, or -1 for the library's default.",
        minimum=-1,
        maximum=9,
        synonyms=["compression.gzip.level"],
    )
    compression_lz4_level: int = setting(
        Kind.INT,
        9,
        "Level for lz4 when `compression.type` is lz4.",
        minimum=1,
        maximum=17,
        synonyms=["compression.lz4.level"],
    )
    compression_type: str = setting(
        Kind.STRING,
        "producer",
        """Codec in which batches are stored. `producer` keeps what the producer chose;
        `uncompressed` and the codecs re-encode every batch that comes in another one.""",
        choices=("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
        synonyms=["compression.type"],
    )
    compression_zstd_level: int = setting(
        Kind.INT,
        3,
        "Level for zstd when `compression.type` is zstd.",
        minimum=-131072,
        maximum=22,
        synonyms=["compression.zstd.level"],
    )
    delete_retention_ms: int = setting(
        Kind.LONG,
        DAY_MS,
        """How long a tombstone stays readable after compaction has reached it, so that a consumer
        that reads from the start sees the deletion.""",
        minimum=0,
        synonyms=["log.cleaner.delete.retention.ms"],
    )
    file_delete_delay_ms: int = setting(
        Kind.LONG,
        MINUTE_MS,
        "Time between taking a segment out of the log and removing its files.",
        minimum=0,
        synonyms=["log.segment.delete.delay.ms"],
    )
    flush_messages: int = setting(
        Kind.LONG,
        LONG_MAX,
        """Records after which the log is synced to disk. With 1, an acknowledgement of acks=all means
        that the record survives a power cut.""",
        minimum=1,
        synonyms=["log.flush.interval.messages"],
    )
    flush_ms: int = setting(
        Kind.LONG,
        LONG_MAX,
        "Longest time that an appended record waits for a sync to disk.",
        minimum=0,
        synonyms=["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
    )
    follower_replication_throttled_replicas: tuple[str, ...] = setting(
        Kind.LIST,
        (),
        f"Replicas whose fetching is throttled on the follower. {_NO_EFFECT}",
        pattern=_THROTTLED,
        pattern_text=_THROTTLED_TEXT,
    )
    index_interval_bytes: int = setting(
        Kind.INT,
        4096,
        "Bytes of records between two entries of the offset index.",
        minimum=0,
        synonyms=["log.index.interval.bytes"],
    )
    leader_replication_throttled_replicas: tuple[str, ...] = setting(
        Kind.LIST,
        (),
        f"Replicas whose fetching is throttled on the leader. {_NO_EFFECT}",
        pattern=_THROTTLED,
        pattern_text=_THROTTLED_TEXT,
    )
    local_retention_bytes: int = setting(
        Kind.LONG,
        -2,
        f"Local size limit of a tiered topic; -2 means `retention.bytes`. {_NO_EFFECT}",
        minimum=-2,
        synonyms=["log.local.retention.bytes"],
    )
    local_retention_ms: int = setting(
        Kind.LONG,
        -2,
        f"Local time limit of a tiered topic; -2 means `retention.ms`. {_NO_EFFECT}",
        minimum=-2,
        synonyms=["log.local.retention.ms"],
    )
    max_compaction_lag_ms: int = setting(
        Kind.LONG,
        LONG_MAX,
        "Longest time that a record of a compacted topic may stay out of reach of compaction.",
        minimum=1,
        synonyms=["log.cleaner.max.compaction.lag.ms"],
    )
    max_message_bytes: int = setting(
        Kind.INT,
        1048588,
        "Largest record batch that is accepted, header included, as it comes from the producer.",
        minimum=0,
        synonyms=["message.max.bytes"],
    )
    message_timestamp_after_max_ms: int = setting(
        Kind.LONG,
        HOUR_MS,
        "How far a record's timestamp may lie ahead of the broker's clock (CreateTime topics).",
        minimum=0,
        synonyms=["log.message.timestamp.after.max.ms"],
    )
    message_timestamp_before_max_ms: int = setting(
        Kind.LONG,
        LONG_MAX,
        "How far a record's timestamp may lie behind the broker's clock (CreateTime topics).",
        minimum=0,
        synonyms=["log.message.timestamp.before.max.ms"],
    )
    message_timestamp_type: str = setting(
        Kind.STRING,
        "CreateTime",
        "Whose clock a record's timestamp shows: the producer's, or the broker's at append.",
        choices=("CreateTime", "LogAppendTime"),
        synonyms=["log.message.timestamp.type"],
    )
    min_cleanable_dirty_ratio: float = setting(
        Kind.DOUBLE,
        0.5,
        "Share of the log that must be uncompacted before compaction takes it up.",
        minimum=0,
        maximum=1,
        synonyms=["log.cleaner.min.cleanable.ratio"],
    )
    min_compaction_lag_ms: int = setting(
        Kind.LONG,
        0,
        "Shortest time that a record stays safe from compaction.",
        minimum=0,
        synonyms=["log.cleaner.min.compaction.lag.ms"],
    )
    min_insync_replicas: int = setting(
        Kind.INT,
        1,
        """In-sync replicas that an acks=all write needs. More than the topic has replicas counts as
        all of them.""",
        minimum=1,
        synonyms=["min.insync.replicas"],
    )
    preallocate: bool = setting(
        Kind.BOOLEAN,
        False,
        f"Reserve a segment's full size on disk when it is made. {_NO_EFFECT}",
        synonyms=["log.preallocate"],
    )
    remote_log_copy_disable: bool = setting(
        Kind.BOOLEAN, False, f"Stop copying to tiered storage. {_NO_EFFECT}"
    )
    remote_log_delete_on_disable: bool = setting(
        Kind.BOOLEAN, False, f"Delete tiered data when tiering is turned off. {_NO_EFFECT}"
    )
    remote_storage_enable: bool = setting(
        Kind.BOOLEAN, False, "Tiered storage. This broker has none: only false is accepted."
    )
    retention_bytes: int = setting(
        Kind.LONG,
        -1,
        "Size of a partition beyond which its oldest segments are deleted; -1 means no limit.",
        synonyms=["log.retention.bytes"],
    )
    retention_ms: int = setting(
        Kind.LONG,
        7 * DAY_MS,
        "Age of a segment's newest record beyond which it is deleted; -1 means no limit.",
        minimum=-1,
        synonyms=[
            "log.retention.ms",
            ("log.retention.minutes", MINUTE_MS),
            ("log.retention.hours", HOUR_MS),
        ],
    )
    segment_bytes: int = setting(
        Kind.INT,
        2**30,
        """Size at which a segment is closed and a new one begun. (Apache Kafka 4 refuses less than
        1 MiB; this broker does not, so that tests can roll often.)""",
        minimum=14,
        synonyms=["log.segment.bytes"],
    )
    segment_index_bytes: int = setting(
        Kind.INT,
        10 * 2**20,
        "Largest size of a segment's index; a full index closes the segment.",
        minimum=4,
        synonyms=["log.index.size.max.bytes"],
    )
    segment_jitter_ms: int = setting(
        Kind.LONG,
        0,
        "Random time taken off `segment.ms`, so that segments do not all roll at once.",
        minimum=0,
        synonyms=["log.roll.jitter.ms", ("log.roll.jitter.hours", HOUR_MS)],
    )
    segment_ms: int = setting(
        Kind.LONG,
        7 * DAY_MS,
        "Age at which a segment that has records is closed, full or not.",
        minimum=1,
        synonyms=["log.roll.ms", ("log.roll.hours", HOUR_MS)],
    )
    unclean_leader_election_enable: bool = setting(
        Kind.BOOLEAN,
        False,
        "Whether a replica that is not in sync may lead when no other is left, losing records.",
        synonyms=["unclean.leader.election.enable"],
    )
    pykbroker_corruption_policy: str = setting(
        Kind.STRING,
        "stop",
        """What a fetch gets at a damaged place in the log: `stop` answers CORRUPT_MESSAGE there,
        `skip` goes on with the next intact batch; either is logged and counted.""",
        choices=("stop", "skip"),
        synonyms=["pykbroker.corruption.policy"],
    )

    pykbroker_partitioner: str = setting(
        Kind.STRING,
        "",
        """Who chooses the partition of what producers send, by name: `default`, `round-robin` or a
        plugin's. Empty: the client does.""",
        pattern=f"({_NAME})?",
        pattern_text=_NAME_TEXT,
        fixed=True,
    )
    pykbroker_exchange_type: str = setting(
        Kind.STRING,
        "",
        """Makes this topic an exchange, which copies what it gets to other topics: `fanout`, `direct`,
        `topic`, `headers` or a plugin's.""",
        pattern=f"({_NAME})?",
        pattern_text=_NAME_TEXT,
        fixed=True,
    )
    pykbroker_exchange_bindings: str = setting(
        Kind.STRING,
        "",
        """Where the exchange copies what: a JSON array of `{"to": TOPIC, "key": KEY, "arguments": {}}`.
        SET replaces all, APPEND and SUBTRACT bind and unbind exactly those given.""",
    )
    pykbroker_exchange_alternate: str = setting(
        Kind.STRING,
        "",
        "The exchange that gets what matches no binding of this one.",
        pattern=_TOPIC_NAME,
        pattern_text="the name of a topic",
    )
    pykbroker_exchange_unroutable: str = setting(
        Kind.STRING,
        "drop",
        """What happens to a record that goes nowhere: `drop` accepts and counts it, `error` refuses it
        when it is produced.""",
        choices=("drop", "error"),
    )
    pykbroker_exchange_keep: bool = setting(
        Kind.BOOLEAN,
        False,
        "Whether the exchange keeps its records, by its retention, when they have been forwarded.",
    )
    pykbroker_dead_letter_topic: str = setting(
        Kind.STRING,
        "",
        "The topic that gets the copies which their target refuses for good. Empty: they are dropped.",
        pattern=_TOPIC_NAME,
        pattern_text="the name of a topic",
    )
    pykbroker_validators: tuple[str, ...] = setting(
        Kind.LIST,
        (),
        "Checks that every batch must pass to come in, by name, in this order.",
        pattern=_NAME,
        pattern_text=_NAMES_TEXT,
    )
    pykbroker_interceptors: tuple[str, ...] = setting(
        Kind.LIST,
        (),
        "What changes every batch that comes in, by name, in this order.",
        pattern=_NAME,
        pattern_text=_NAMES_TEXT,
    )

    @property
    def compacted(self) -> bool:
        """Whether compaction works on this topic."""
        return "compact" in self.cleanup_policy

    @property
    def deletes(self) -> bool:
        """Whether retention by time and size works on this topic."""
        return "delete" in self.cleanup_policy

    @classmethod
    def from_overrides(cls, broker: BrokerConfig, overrides: Mapping[str, str]) -> TopicConfig:
        """The effective settings of a topic with these values of its own.

        Names that this version does not know have no effect: they were checked when they were set,
        perhaps by a newer version.  Raises :class:`ConfigError` for a malformed value.
        """
        table = settings_of(cls)
        values: dict[str, Value] = dict(broker.topic_defaults)
        for name, text in overrides.items():
            row = table.get(name)
            if row is not None:
                values[row.field] = row.parse(text)
        # Each row's parse and default have the type of its field, which no type checker can see.
        return cls(**values)  # type: ignore[arg-type]


def topic_defaults(broker: BrokerConfig) -> dict[str, Value]:
    """Values by field name of a topic without settings of its own, on this broker."""
    return {row.field: default_of(row, broker) for row in settings_of(TopicConfig).values()}


def default_of(row: Setting, broker: BrokerConfig) -> Value:
    """What ``row`` is where the topic does not say: the first synonym that is set, in our unit."""
    for name, factor in row.synonyms:
        value = broker.get(name)
        if value is None:
            continue
        if row.unordered and isinstance(value, tuple):
            return frozenset(value)
        if factor != 1 and isinstance(value, int):
            # Kafka keeps -1, "no limit", in any unit.
            return -1 if value < 0 else value * factor
        return value
    return row.default


def check_topic_overrides(
    broker: BrokerConfig, overrides: Mapping[str, str], before: Mapping[str, str] | None = None
) -> TopicConfig:
    """The effective settings, if a client may set exactly these, in place of ``before``.

    Values that stay as they were are not looked at again where they are a plugin's, or name one: it
    may be gone, and the topic must remain alterable.  Raises :class:`ConfigError` for unknown names,
    malformed values, values that contradict each other, and changes of what is fixed.
    """
    table = settings_of(TopicConfig)
    added = broker.extensions
    for name, text in overrides.items():
        if name not in table and not extensions.is_plugin_setting(name):
            raise unknown(name, text, table)
    if added is not None:
        extensions.check_values(added.topic, overrides, before or _NONE)
        extensions.check_names(added.names, overrides, before or _NONE)
    if before is not None:
        _check_fixed(before, overrides)
    config = TopicConfig.from_overrides(broker, overrides)
    _check_contradictions(config)
    return config


def _check_fixed(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    for row in settings_of(TopicConfig).values():
        if row.fixed and before.get(row.name, "") != after.get(row.name, ""):
            raise ConfigError(row.name, after.get(row.name), "can only be given when the topic is created")


def _check_contradictions(config: TopicConfig) -> None:
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms:
        raise ConfigError(
            "min.compaction.lag.ms",
            str(config.min_compaction_lag_ms),
            f"must not be above max.compaction.lag.ms, which is {config.max_compaction_lag_ms}",
        )
    if config.remote_storage_enable:
        raise ConfigError("remote.storage.enable", "true", "this broker has no tiered storage")
    if config.compression_gzip_level == 0:
        raise ConfigError("compression.gzip.level", "0", "must be -1 or an integer from 1 to 9")
    if config.pykbroker_exchange_type and config.pykbroker_partitioner:
        raise ConfigError(
            "pykbroker.partitioner",
            config.pykbroker_partitioner,
            "an exchange has no partitioner: give it to the topics that it is bound to",
        )
    for name, value in (
        ("pykbroker.exchange.bindings", config.pykbroker_exchange_bindings),
        ("pykbroker.exchange.alternate", config.pykbroker_exchange_alternate),
    ):
        if value and not config.pykbroker_exchange_type:
            raise ConfigError(name, value, "only an exchange has this: give pykbroker.exchange.type too")
