"""The settings of the broker: Kafka's names and defaults, and ours under ``pykbroker.``.

Where one machine suits another default better, ``kafka_default`` records Kafka's.  Values come in
layers, as Kafka resolves them: altered for this broker at run time, altered for all brokers at run
time, given at start, default.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from pykbroker.config import extensions, templates, topic
from pykbroker.config.extensions import Extensions
from pykbroker.config.setting import (
    INT_MAX,
    LONG_MAX,
    ConfigError,
    Kind,
    Setting,
    Value,
    setting,
    settings_of,
)

log = logging.getLogger(__name__)

_NONE: Mapping[str, str] = MappingProxyType({})
_REPLICAS_DOC = "A single broker has one replica of everything, whatever is set."
_ENDPOINT = r"(?i:[a-z_][a-z0-9_]*)://(?:\[[^\]]+\]|[^:/\[\]]*):[0-9]+"
_ENDPOINT_TEXT = "a comma-separated list of NAME://HOST:PORT"
_CODECS = ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to listen at, or to be reached at; an empty host means all interfaces."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """The effective settings of this broker; times in ms unless the name says otherwise."""

    # identity and listeners
    node_id: int = setting(
        Kind.INT, 1, "This broker's number in the cluster (`broker.id` is read too).", minimum=0
    )
    broker_rack: str | None = setting(Kind.STRING, None, "The rack that Metadata shows for this broker.")
    listeners: tuple[str, ...] = setting(
        Kind.LIST,
        ("PLAINTEXT://localhost:9092",),
        """Where to listen. An empty host or 0.0.0.0 means all interfaces, port 0 any free port. The
        default is this machine only, because there is no authentication yet.""",
        pattern=_ENDPOINT,
        pattern_text=_ENDPOINT_TEXT,
        kafka_default="PLAINTEXT://:9092",
    )
    advertised_listeners: tuple[str, ...] | None = setting(
        Kind.LIST,
        None,
        """What clients are told to connect to, where that is not what we listen on: by the name of the
        listener that they came by. Port 0 means the port that is listened on.""",
        pattern=_ENDPOINT,
        pattern_text=_ENDPOINT_TEXT,
    )
    socket_listen_backlog_size: int = setting(
        Kind.INT, 50, "Connections that wait to be accepted.", minimum=1
    )
    socket_send_buffer_bytes: int = setting(
        Kind.INT,
        -1,
        "Send buffer of a connection; -1 leaves it to the system, which fits it to the connection.",
        minimum=-1,
        kafka_default="102400",
    )
    socket_receive_buffer_bytes: int = setting(
        Kind.INT,
        -1,
        "Receive buffer of a connection; -1 leaves it to the system, which fits it to the connection.",
        minimum=-1,
        kafka_default="102400",
    )
    socket_request_max_bytes: int = setting(
        Kind.INT, 104857600, "Largest request; a larger one closes the connection.", minimum=1
    )
    queued_max_request_bytes: int = setting(
        Kind.LONG,
        268435456,
        "Bytes of requests in work on all connections beyond which reading pauses; -1 means no limit.",
        minimum=-1,
        kafka_default="-1",
    )
    pykbroker_queued_max_wait_ms: int = setting(
        Kind.INT,
        10000,
        """Time that reading may pause because of `queued.max.request.bytes`; a connection that then still
        holds an unfinished request is closed, so that the others can go on.""",
        minimum=1,
    )
    pykbroker_max_plain_request_bytes: int = setting(
        Kind.INT,
        16777216,
        """Largest request of any kind but Produce; a larger one closes the connection. Such requests are
        turned into objects, which take many times their size.""",
        minimum=1024,
    )
    pykbroker_connection_max_inflight_bytes: int = setting(
        Kind.INT,
        65536,
        """Bytes of further requests that are read from a connection while one of its requests waits for its
        answer.""",
        minimum=1,
    )
    connections_max_idle_ms: int = setting(
        Kind.LONG, 600000, "A connection on which nothing moved for this long is closed; -1 means never.",
        minimum=-1,
    )  # fmt: skip
    max_connections: int = setting(
        Kind.INT, INT_MAX, "Connections at one time; more are closed at once.", minimum=0, dynamic=True
    )
    max_connections_per_ip: int = setting(
        Kind.INT,
        INT_MAX,
        "Connections at one time from one address; more are closed at once.",
        minimum=0,
        dynamic=True,
    )
    # what exists
    log_dirs: str = setting(
        Kind.STRING,
        "pykbroker-data",
        "The data directory (one; `log.dir` is read too).",
        pattern=r"[^,]+",
        pattern_text="the path of one directory",
        kafka_default="/tmp/kafka-logs",
    )
    num_partitions: int = setting(
        Kind.INT, 1, "Partitions of a topic that is created without a number.", minimum=1
    )
    default_replication_factor: int = setting(
        Kind.INT, 1, f"Replicas of a topic that is created without a number. {_REPLICAS_DOC}", minimum=1
    )
    auto_create_topics_enable: bool = setting(
        Kind.BOOLEAN, True, "Whether asking for an unknown topic's metadata may create it."
    )
    delete_topic_enable: bool = setting(Kind.BOOLEAN, True, "Whether topics may be deleted.")
    min_insync_replicas: int = setting(
        Kind.INT, 1, "Default of the topic setting of this name.", minimum=1, dynamic=True
    )
    unclean_leader_election_enable: bool = setting(
        Kind.BOOLEAN, False, "Default of the topic setting of this name.", dynamic=True
    )
    max_request_partition_size_limit: int = setting(
        Kind.INT, 2000, "Partitions that one DescribeTopicPartitions answer may list.", minimum=1
    )
    # defaults of topic settings
    message_max_bytes: int = setting(
        Kind.INT, 1048588, "Default of `max.message.bytes`.", minimum=0, dynamic=True
    )
    compression_type: str = setting(
        Kind.STRING, "producer", "Default of the topic setting of this name.", choices=_CODECS, dynamic=True
    )
    compression_gzip_level: int = setting(
        Kind.INT, -1, "Default of the topic setting of this name.", minimum=-1, maximum=9, dynamic=True
    )
    compression_lz4_level: int = setting(
        Kind.INT, 9, "Default of the topic setting of this name.", minimum=1, maximum=17, dynamic=True
    )
    compression_zstd_level: int = setting(
        Kind.INT, 3, "Default of the topic setting of this name.", minimum=-131072, maximum=22, dynamic=True
    )
    log_cleanup_policy: tuple[str, ...] = setting(
        Kind.LIST, ("delete",), "Default of `cleanup.policy`.", choices=("compact", "delete"), dynamic=True
    )
    log_cleaner_delete_retention_ms: int = setting(
        Kind.LONG, 86400000, "Default of `delete.retention.ms`.", minimum=0, dynamic=True
    )
    log_cleaner_min_cleanable_ratio: float = setting(
        Kind.DOUBLE, 0.5, "Default of `min.cleanable.dirty.ratio`.", minimum=0, maximum=1, dynamic=True
    )
    log_cleaner_min_compaction_lag_ms: int = setting(
        Kind.LONG, 0, "Default of `min.compaction.lag.ms`.", minimum=0, dynamic=True
    )
    log_cleaner_max_compaction_lag_ms: int = setting(
        Kind.LONG, LONG_MAX, "Default of `max.compaction.lag.ms`.", minimum=1, dynamic=True
    )
    log_flush_interval_messages: int = setting(
        Kind.LONG, LONG_MAX, "Default of `flush.messages`.", minimum=1, dynamic=True
    )
    log_flush_interval_ms: int | None = setting(
        Kind.LONG, None, "Default of `flush.ms`; else `log.flush.scheduler.interval.ms`.", dynamic=True,
        minimum=0,
    )  # fmt: skip
    log_flush_scheduler_interval_ms: int = setting(
        Kind.LONG, LONG_MAX, "Default of `flush.ms` where `log.flush.interval.ms` is not set.", minimum=0
    )
    log_index_interval_bytes: int = setting(
        Kind.INT, 4096, "Default of `index.interval.bytes`.", minimum=0, dynamic=True
    )
    log_index_size_max_bytes: int = setting(
        Kind.INT, 10485760, "Default of `segment.index.bytes`.", minimum=4, dynamic=True
    )
    log_local_retention_bytes: int = setting(
        Kind.LONG, -2, "Default of `local.retention.bytes`.", minimum=-2, dynamic=True
    )
    log_local_retention_ms: int = setting(
        Kind.LONG, -2, "Default of `local.retention.ms`.", minimum=-2, dynamic=True
    )
    log_message_timestamp_after_max_ms: int = setting(
        Kind.LONG, 3600000, "Default of `message.timestamp.after.max.ms`.", minimum=0, dynamic=True
    )
    log_message_timestamp_before_max_ms: int = setting(
        Kind.LONG, LONG_MAX, "Default of `message.timestamp.before.max.ms`.", minimum=0, dynamic=True
    )
    log_message_timestamp_type: str = setting(
        Kind.STRING,
        "CreateTime",
        "Default of `message.timestamp.type`.",
        choices=("CreateTime", "LogAppendTime"),
        dynamic=True,
    )
    log_preallocate: bool = setting(Kind.BOOLEAN, False, "Default of `preallocate`.", dynamic=True)
    log_retention_bytes: int = setting(Kind.LONG, -1, "Default of `retention.bytes`.", dynamic=True)
    log_retention_hours: int = setting(
        Kind.INT, 168, "Default of `retention.ms`, in hours; -1 means no limit.", minimum=-1
    )
    log_retention_minutes: int | None = setting(
        Kind.INT, None, "The same in minutes; wins over `log.retention.hours`.", minimum=-1
    )
    log_retention_ms: int | None = setting(
        Kind.LONG, None, "The same in ms; wins over the other two.", minimum=-1, dynamic=True
    )
    log_roll_hours: int = setting(Kind.INT, 168, "Default of `segment.ms`, in hours.", minimum=1)
    log_roll_ms: int | None = setting(
        Kind.LONG, None, "The same in ms; wins over `log.roll.hours`.", minimum=1, dynamic=True
    )
    log_roll_jitter_hours: int = setting(Kind.INT, 0, "Default of `segment.jitter.ms`, in hours.", minimum=0)
    log_roll_jitter_ms: int | None = setting(
        Kind.LONG, None, "The same in ms; wins over `log.roll.jitter.hours`.", minimum=0, dynamic=True
    )
    log_segment_bytes: int = setting(
        Kind.INT, 1073741824, "Default of `segment.bytes`.", minimum=14, dynamic=True
    )
    log_segment_delete_delay_ms: int = setting(
        Kind.LONG, 60000, "Default of `file.delete.delay.ms`.", minimum=0, dynamic=True
    )
    pykbroker_corruption_policy: str = setting(
        Kind.STRING, "stop", "Default of the topic setting of this name.", choices=("stop", "skip"),
        dynamic=True,
    )  # fmt: skip
    pykbroker_retry_policy: str = setting(
        Kind.STRING, "none", "Default of the topic setting of this name.",
        pattern="[A-Za-z0-9_-]+", pattern_text="a name of letters, digits, - and _", dynamic=True,
    )  # fmt: skip
    pykbroker_retry_max_attempts: int = setting(
        Kind.INT, 5, "Default of the topic setting of this name.", minimum=0, dynamic=True
    )
    pykbroker_retry_delay_ms: int = setting(
        Kind.LONG, 1000, "Default of the topic setting of this name.",
        minimum=0, maximum=templates.LONGEST_MS, dynamic=True,
    )  # fmt: skip
    pykbroker_retry_max_delay_ms: int = setting(
        Kind.LONG, 3600000, "Default of the topic setting of this name.",
        minimum=0, maximum=templates.LONGEST_MS, dynamic=True,
    )  # fmt: skip
    pykbroker_retry_topic: str = setting(
        Kind.STRING, templates.RETRY_TOPIC, "Default of the topic setting of this name.",
        pattern=templates.PER_GROUP, pattern_text=templates.PER_GROUP_TEXT, dynamic=True,
    )  # fmt: skip
    pykbroker_dead_letter_topic: str = setting(
        Kind.STRING, templates.DEAD_LETTER_TOPIC, "Default of the topic setting of this name.",
        pattern=templates.ANY, pattern_text=templates.ANY_TEXT, dynamic=True,
    )  # fmt: skip
    # work in the background
    log_retention_check_interval_ms: int = setting(
        Kind.LONG, 300000, "Time between two looks for segments to delete.", minimum=1
    )
    log_flush_offset_checkpoint_interval_ms: int = setting(
        Kind.INT, 60000, "Time between two writes of the recovery points.", minimum=0
    )
    log_flush_start_offset_checkpoint_interval_ms: int = setting(
        Kind.INT, 60000, "Time between two writes of the log start offsets.", minimum=0
    )
    replica_high_watermark_checkpoint_interval_ms: int = setting(
        Kind.LONG, 5000, "Time between two writes of the high watermarks.", minimum=1
    )
    replica_lag_time_max_ms: int = setting(
        Kind.LONG, 30000, "Time after which a replica that is behind is no longer in sync."
    )
    log_cleaner_enable: bool = setting(
        Kind.BOOLEAN, True, "Whether compacted topics are compacted. Internal topics need it."
    )
    log_cleaner_backoff_ms: int = setting(
        Kind.LONG, 15000, "Time between two looks for logs to compact.", minimum=0, dynamic=True
    )
    log_cleaner_dedupe_buffer_size: int = setting(
        Kind.LONG, 134217728, "Memory that one compaction may use for keys.", minimum=1024, dynamic=True
    )
    pykbroker_log_max_open_segments: int = setting(
        Kind.INT, 0, "Segment files open at one time; 0 takes half of the process's limit.", minimum=0
    )
    pykbroker_max_decompressed_bytes: int = setting(
        Kind.INT, 134217728, "Largest size that one compressed batch may have unpacked.", minimum=1024
    )
    # fetch
    fetch_max_bytes: int = setting(
        Kind.INT, 57671680, "Most bytes of records in one Fetch answer.", minimum=1024
    )
    max_incremental_fetch_session_cache_slots: int = setting(
        Kind.INT, 1000, "Fetch sessions kept at one time.", minimum=0
    )
    # groups and their offsets
    group_min_session_timeout_ms: int = setting(
        Kind.INT, 6000, "Shortest session timeout that a member may ask for.", minimum=0
    )
    group_max_session_timeout_ms: int = setting(
        Kind.INT, 1800000, "Longest session timeout that a member may ask for.", minimum=0
    )
    group_initial_rebalance_delay_ms: int = setting(
        Kind.INT,
        0,
        "Time that the first rebalance of an empty group waits for more members.",
        minimum=0,
        kafka_default="3000",
    )
    group_max_size: int = setting(Kind.INT, INT_MAX, "Members that one group may have.", minimum=1)
    offset_metadata_max_bytes: int = setting(
        Kind.INT, 4096, "Largest metadata of a committed offset.", minimum=0
    )
    offsets_commit_timeout_ms: int = setting(
        Kind.INT, 5000, "Time that an offset commit may wait for its replicas.", minimum=1
    )
    offsets_load_buffer_size: int = setting(
        Kind.INT, 5242880, "Bytes read at once when a coordinator loads its partition.", minimum=1
    )
    offsets_retention_minutes: int = setting(
        Kind.INT, 10080, "Minutes that offsets are kept after a group became empty.", minimum=1
    )
    offsets_retention_check_interval_ms: int = setting(
        Kind.LONG, 600000, "Time between two looks for expired offsets.", minimum=1
    )
    offsets_topic_num_partitions: int = setting(
        Kind.INT,
        50,
        "Partitions of `__consumer_offsets`; fixed once the topic exists.",
        minimum=1,
    )
    offsets_topic_replication_factor: int = setting(
        Kind.SHORT,
        1,
        f"Replicas of `__consumer_offsets`. {_REPLICAS_DOC}",
        minimum=1,
        kafka_default="3",
    )
    offsets_topic_segment_bytes: int = setting(
        Kind.INT, 104857600, "Segment size of `__consumer_offsets`.", minimum=1
    )
    # producers and transactions
    producer_id_expiration_ms: int = setting(
        Kind.INT,
        86400000,
        "Time that a partition remembers a producer after its last append.",
        minimum=1,
        dynamic=True,
    )
    producer_id_expiration_check_interval_ms: int = setting(
        Kind.INT, 600000, "Time between two looks for producers to forget.", minimum=1
    )
    transaction_max_timeout_ms: int = setting(
        Kind.INT, 900000, "Longest transaction timeout that a producer may ask for.", minimum=1
    )
    transactional_id_expiration_ms: int = setting(
        Kind.INT, 604800000, "Time that an unused transactional id is remembered.", minimum=1
    )
    transaction_state_log_num_partitions: int = setting(
        Kind.INT, 50, "Partitions of `__transaction_state`.", minimum=1
    )
    transaction_state_log_replication_factor: int = setting(
        Kind.SHORT,
        1,
        f"Replicas of `__transaction_state`. {_REPLICAS_DOC}",
        minimum=1,
        kafka_default="3",
    )
    transaction_state_log_min_isr: int = setting(
        Kind.INT, 1, "In-sync replicas that `__transaction_state` needs.", minimum=1, kafka_default="2"
    )
    transaction_state_log_segment_bytes: int = setting(
        Kind.INT, 104857600, "Segment size of `__transaction_state`.", minimum=1
    )
    # plugins
    pykbroker_plugins: str = setting(
        Kind.STRING,
        "on",
        """`off` leaves out all plugins but those of pykbroker that cannot be blocked, whatever else is
        asked for.""",
        choices=("on", "off"),
    )
    pykbroker_plugins_block: tuple[str, ...] = setting(
        Kind.LIST, (), "Plugins, or single components of them, that are left out, by name."
    )
    pykbroker_plugin_timeout_ms: int = setting(
        Kind.INT, 10000, "Time after which a plugin's async hook is cancelled.", minimum=1
    )
    pykbroker_forward_num_partitions: int = setting(
        Kind.INT,
        5,
        "Partitions of `__pykbroker_forward`, the log of what exchanges and partitioners have decided.",
        minimum=1,
    )
    # logging
    pykbroker_log_level: str = setting(
        Kind.STRING,
        "info",
        "Lowest level of what is logged.",
        choices=("debug", "info", "warning", "error"),
    )
    pykbroker_log_format: str = setting(
        Kind.STRING, "text", "Log lines for people, or one JSON object per line.", choices=("text", "json")
    )

    static: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What was given at start, by name, as text."""
    dynamic_default: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What was altered for all brokers at run time."""
    dynamic: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What was altered for this broker at run time."""
    extensions: Extensions | None = field(default=None, repr=False, compare=False)
    """What plugins add to the settings; None while they are not loaded, when nothing of it is checked."""
    topic_defaults: Mapping[str, Value] = field(init=False, repr=False, compare=False)
    """Values by field name of a topic without settings of its own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "topic_defaults", MappingProxyType(topic.topic_defaults(self)))

    @property
    def data_dir(self) -> Path:
        """The data directory."""
        return Path(self.log_dirs)

    def get(self, name: str) -> Value:
        """The effective value of the setting that Kafka calls ``name``; KeyError if we have none."""
        value: Value = getattr(self, settings_of(BrokerConfig)[name].field)
        return value

    def listen_endpoints(self) -> tuple[Endpoint, ...]:
        """Where to listen."""
        return tuple(_endpoint(text) for text in self.listeners)

    def advertised_endpoints(self) -> tuple[Endpoint, ...] | None:
        """What clients are told, or None: what we listen on."""
        if self.advertised_listeners is None:
            return None
        return tuple(_endpoint(text) for text in self.advertised_listeners)

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> BrokerConfig:
        """A config from known names and their values as text; raises :class:`ConfigError`."""
        config = cls(static=MappingProxyType(dict(texts)))
        return config._layered()

    @classmethod
    def load(
        cls,
        file: Path | None = None,
        env: Mapping[str, str] | None = None,
        sets: tuple[str, ...] | list[str] = (),
    ) -> BrokerConfig:
        """The config from a TOML or properties file, ``PYKBROKER_*`` variables and ``KEY=VALUE`` texts.

        A later source wins over an earlier one.  Raises :class:`ConfigError` for what is unknown or
        malformed.
        """
        from pykbroker.config.load import gather  # the parsers are needed once, at start

        return cls.from_texts(gather(file, env or {}, sets))

    def with_dynamic(
        self, default: Mapping[str, str] = _NONE, own: Mapping[str, str] = _NONE
    ) -> BrokerConfig:
        """This config under other values altered at run time (for all brokers, for this one)."""
        layered = dataclasses.replace(
            self, dynamic_default=MappingProxyType(dict(default)), dynamic=MappingProxyType(dict(own))
        )
        return layered._layered()

    def with_extensions(self, added: Extensions) -> BrokerConfig:
        """This config with the settings that plugins declare.

        Raises :class:`ConfigError` for one given at start that is unknown or malformed.
        """
        static = extensions.respelled(added.broker, self.static)
        extensions.check_values(added.broker, static)
        extensions.check_names(added.names, static, {})
        return dataclasses.replace(self, static=MappingProxyType(static), extensions=added)

    def plugin_value(self, row: Setting) -> Value:
        """The broker's value of a setting that a plugin declares.

        A value that was altered at run time and that a newer version of the plugin would refuse does
        not count, lest the broker not start.
        """
        for layer in (self.dynamic, self.dynamic_default, self.static):
            text = layer.get(row.name)
            if text is not None:
                try:
                    return row.parse(text)
                except ConfigError as error:
                    log.warning("a stored setting of a plugin is passed over: %s", error)
        return row.default

    def _layered(self) -> BrokerConfig:
        """Every value taken anew from the layers."""
        table = settings_of(BrokerConfig)
        texts = {**self.static, **self.dynamic_default, **self.dynamic}
        values = {row.field: self._value(row, texts) for row in table.values()}
        # Each row's parse and default have the type of its field, which no type checker can see.
        config = dataclasses.replace(self, **values)  # type: ignore[arg-type]
        _check(config)
        return config

    def _value(self, row: Setting, texts: Mapping[str, str]) -> Value:
        text = texts.get(row.name)
        return row.default if text is None else row.parse(text)


def _endpoint(text: str) -> Endpoint:
    match = re.fullmatch(r"([^:]+)://(.*):([0-9]+)", text)
    assert match is not None  # the setting's pattern holds
    name, host, port = match.groups()
    return Endpoint(name.upper(), host.strip("[]"), int(port))


def _check(config: BrokerConfig) -> None:
    """What single rows cannot say; raises :class:`ConfigError`."""
    for name, endpoints in (
        ("listeners", config.listen_endpoints()),
        ("advertised.listeners", config.advertised_endpoints() or ()),
    ):
        for endpoint in endpoints:
            text = f"{endpoint.name}://{endpoint.host}:{endpoint.port}"
            if endpoint.port > 65535:
                raise ConfigError(name, text, "a port must be an integer from 0 to 65535")
            if endpoint.name in ("SSL", "SASL_SSL", "SASL_PLAINTEXT"):
                raise ConfigError(name, text, "only plaintext listeners exist here yet")
    if not config.listeners:
        raise ConfigError("listeners", "", f"must be {_ENDPOINT_TEXT}")
    _check_names(config)
    low, high = config.group_min_session_timeout_ms, config.group_max_session_timeout_ms
    if low > high:
        raise ConfigError(
            "group.min.session.timeout.ms",
            str(low),
            f"must not be above group.max.session.timeout.ms, which is {high}",
        )
    if config.pykbroker_retry_topic == config.pykbroker_dead_letter_topic:
        raise topic.same_names(config.pykbroker_retry_topic)
    topic.TopicConfig.from_overrides(config, {})


def _check_names(config: BrokerConfig) -> None:
    """A listener's name says which advertised endpoint belongs to it; raises :class:`ConfigError`."""
    names = [endpoint.name for endpoint in config.listen_endpoints()]
    if len(set(names)) < len(names):
        raise ConfigError(
            "listeners", ",".join(config.listeners), "each listener must have a name of its own"
        )
    advertised = config.advertised_endpoints() or ()
    for text, endpoint in zip(config.advertised_listeners or (), advertised, strict=True):
        if endpoint.name not in names:
            raise ConfigError("advertised.listeners", text, f"a name must be one of {', '.join(names)}")
        if endpoint.host in ("", "0.0.0.0", "::"):
            raise ConfigError("advertised.listeners", text, "a client cannot connect to all interfaces")
