"""The settings of a topic: Kafka 4.3.1's 33, with its defaults, and ours under ``pykbroker.``.

A topic's own value wins; otherwise the broker setting named as its synonym gives the default.  Some
synonyms are chains in different units (``log.retention.ms``, else ``.minutes``, else ``.hours``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from pykbroker.config import extensions, templates
from pykbroker.config.setting import (
    INT_MAX,
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

ROLE = "pykbroker.role"
ROLE_DEFAULTS: Mapping[str, Value] = MappingProxyType(
    {
        "cleanup_policy": frozenset({"delete"}),
        "retention_ms": -1,
        "retention_bytes": -1,
        "max_message_bytes": INT_MAX,
        "message_timestamp_type": "CreateTime",
    }
)
"""Defaults, by field name, of a topic with a role, in place of the broker's: what failed is as old as it
was, headers were added to it, and it must neither be swept nor refused."""


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
    pykbroker_retry_policy: str = setting(
        Kind.STRING,
        "none",
        """When records come back that a consumer group could not process, by name: `immediate`, `fixed`,
        `linear`, `exponential` or a plugin's. `none`: failures are the consumers' own business.""",
        pattern=_NAME,
        pattern_text=_NAME_TEXT,
        synonyms=["pykbroker.retry.policy"],
    )
    pykbroker_retry_max_attempts: int = setting(
        Kind.INT,
        5,
        """How often a record that failed comes back in the retry topic; its next failure makes it a dead
        letter. 0: the first one does.""",
        minimum=0,
        synonyms=["pykbroker.retry.max.attempts"],
    )
    pykbroker_retry_delay_ms: int = setting(
        Kind.LONG,
        1000,
        "Time until a record comes back; what the policy makes of it depends on the policy.",
        minimum=0,
        maximum=templates.LONGEST_MS,
        synonyms=["pykbroker.retry.delay.ms"],
    )
    pykbroker_retry_max_delay_ms: int = setting(
        Kind.LONG,
        3600000,
        "Longest time until a record comes back, whatever the policy says.",
        minimum=0,
        maximum=templates.LONGEST_MS,
        synonyms=["pykbroker.retry.max.delay.ms"],
    )
    pykbroker_retry_topic: str = setting(
        Kind.STRING,
        templates.RETRY_TOPIC,
        """The topic in which a group's failed records come back. Characters of the group's id that a
        topic may not have become `_`. It holds for topics that are made from then on.""",
        pattern=templates.PER_GROUP,
        pattern_text=templates.PER_GROUP_TEXT,
        synonyms=["pykbroker.retry.topic"],
    )
    pykbroker_dead_letter_topic: str = setting(
        Kind.STRING,
        templates.DEAD_LETTER_TOPIC,
        """The topic that gets dead letters: records that failed too often. It may be any topic, also one
        that several share, or an exchange. Of an exchange: the topic that gets the copies which their
        target refuses for good; empty, or with `{group}` in it, they are dropped.""",
        pattern=templates.ANY,
        pattern_text=templates.ANY_TEXT,
        synonyms=["pykbroker.dead.letter.topic"],
    )
    pykbroker_delay_enable: bool = setting(
        Kind.BOOLEAN,
        False,
        """Whether records become readable only some time after they were produced: as their header
        `pykbroker-delay-ms` says, else `pykbroker.delay.ms`.""",
        fixed=True,
    )
    pykbroker_delay_ms: int = setting(
        Kind.LONG,
        0,
        "That time for records without such a header, on a topic with `pykbroker.delay.enable`.",
        minimum=0,
        maximum=templates.LONGEST_MS,
    )
    pykbroker_role: str = setting(
        Kind.STRING,
        "",
        """What the broker made this topic for: `retry:TOPIC:GROUP` or `dlq:TOPIC:GROUP`. Read-only. A topic
        with a role keeps its records: the defaults of retention and sizes are no limits there.""",
        fixed=True,
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
        if ROLE in overrides:
            values.update(ROLE_DEFAULTS)
        for name, text in overrides.items():
            row = table.get(name)
            if row is not None:
                values[row.field] = row.parse(text)
        if values["pykbroker_exchange_type"] and "{group}" in str(values["pykbroker_dead_letter_topic"]):
            values["pykbroker_dead_letter_topic"] = ""  # an exchange's failures are no group's
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
    if overrides.get(ROLE) != (before or _NONE).get(ROLE):
        raise ConfigError(ROLE, overrides.get(ROLE), "is read-only: the broker gives topics their roles")
    if before is not None:
        _check_fixed(before, overrides)
    config = TopicConfig.from_overrides(broker, overrides)
    _check_contradictions(config)
    _check_deliveries(config, overrides)
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


def _check_deliveries(config: TopicConfig, overrides: Mapping[str, str]) -> None:
    """Contradictions of failed deliveries and delays."""
    if config.pykbroker_role:
        _check_role(config, overrides)
    if config.pykbroker_exchange_type and overrides.get("pykbroker.retry.policy", "none") != "none":
        raise ConfigError(
            "pykbroker.retry.policy",
            overrides["pykbroker.retry.policy"],
            "an exchange has none: give it to the topics that it is bound to",
        )
    if config.pykbroker_retry_topic == config.pykbroker_dead_letter_topic:
        raise same_names(config.pykbroker_retry_topic)
    delays = config.pykbroker_delay_enable
    if config.pykbroker_delay_ms and not delays:
        raise ConfigError(
            "pykbroker.delay.ms",
            str(config.pykbroker_delay_ms),
            "only a topic that was created with pykbroker.delay.enable=true has this",
        )
    for name, there, why in (
        ("pykbroker.exchange.type", config.pykbroker_exchange_type, "an exchange: bind topics that delay"),
        ("pykbroker.partitioner", config.pykbroker_partitioner, "a topic with a partitioner"),
        ("cleanup.policy", config.compacted, "a compacted topic"),
    ):
        if delays and there:
            raise ConfigError(name, overrides.get(name), f"pykbroker.delay.enable is not possible on {why}")


def same_names(template: str) -> ConfigError:
    """The error for a dead-letter topic that would be the retry topic."""
    return ConfigError("pykbroker.dead.letter.topic", template, "must not be the name of the retry topic too")


_NOT_WITH_A_ROLE = (
    "pykbroker.validators",
    "pykbroker.interceptors",
    "pykbroker.partitioner",
    "pykbroker.exchange.type",
    "pykbroker.delay.enable",
    "pykbroker.dead.letter.topic",
)


_SWEPT = (
    "must be -1 on a retry topic: a record that comes back is as old as it was, and would be swept unread. "
    "What its group has read goes log.retention.ms after its segment was closed"
)


def _check_role(config: TopicConfig, overrides: Mapping[str, str]) -> None:
    if config.compacted:
        raise ConfigError(
            "cleanup.policy",
            overrides.get("cleanup.policy"),
            "a topic with a role cannot be compacted: records of one key would replace each other",
        )
    if config.pykbroker_role.startswith("retry:"):
        for name, limit in (
            ("retention.ms", config.retention_ms),
            ("retention.bytes", config.retention_bytes),
        ):
            if limit != -1:
                raise ConfigError(name, overrides.get(name), _SWEPT)
    for name, text in overrides.items():
        if name.startswith("pykbroker.retry.") or (name in _NOT_WITH_A_ROLE and text.strip()):
            raise ConfigError(name, text, "a topic with a role cannot have this")
