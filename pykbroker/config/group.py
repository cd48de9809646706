"""The settings of a consumer group (config resource type 32): Kafka 4.3.1's 17, and ours of failures.

Kafka's belong to the newer group protocols, which are not served yet: they can be set, read back and
survive a restart, and take effect when those protocols do.  Ours are those of topics under the same
names: where a group has one, it wins over the topic's; where it has not, there is no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pykbroker.config import extensions, templates
from pykbroker.config.extensions import Extensions
from pykbroker.config.setting import Kind, Value, setting, settings_of, unknown
from pykbroker.config.topic import same_names

_WINS = "For this group, on whatever topic, in place of the topic's setting of this name."
_LATER = "Takes effect with the newer group protocols, which are not served yet."


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupConfig:
    """The effective settings of one group; times in ms."""

    consumer_session_timeout_ms: int = setting(
        Kind.INT, 45000, f"Session timeout of consumer members. {_LATER}", minimum=1,
        synonyms=["group.consumer.session.timeout.ms"],
    )  # fmt: skip
    consumer_heartbeat_interval_ms: int = setting(
        Kind.INT, 5000, f"Heartbeat interval of consumer members. {_LATER}", minimum=1,
        synonyms=["group.consumer.heartbeat.interval.ms"],
    )  # fmt: skip
    consumer_assignment_interval_ms: int = setting(
        Kind.INT, 1000, f"Shortest time between two assignments. {_LATER}", minimum=0,
        synonyms=["group.consumer.assignment.interval.ms"],
    )  # fmt: skip
    share_session_timeout_ms: int = setting(
        Kind.INT, 45000, f"Session timeout of share group members. {_LATER}", minimum=1,
        synonyms=["group.share.session.timeout.ms"],
    )  # fmt: skip
    share_heartbeat_interval_ms: int = setting(
        Kind.INT, 5000, f"Heartbeat interval of share group members. {_LATER}", minimum=1,
        synonyms=["group.share.heartbeat.interval.ms"],
    )  # fmt: skip
    share_assignment_interval_ms: int = setting(
        Kind.INT, 1000, f"Shortest time between two assignments. {_LATER}", minimum=0,
        synonyms=["group.share.assignment.interval.ms"],
    )  # fmt: skip
    share_auto_offset_reset: str = setting(
        Kind.STRING, "latest", f"Where a new share group starts. {_LATER}",
        pattern=r"latest|earliest|by_duration:.+",
        pattern_text="latest, earliest or by_duration:DURATION",
        synonyms=["share.auto.offset.reset"],
    )  # fmt: skip
    share_delivery_count_limit: int = setting(
        Kind.INT, 5, f"Deliveries of one record before it is given up. {_LATER}", minimum=2,
        synonyms=["group.share.delivery.count.limit"],
    )  # fmt: skip
    share_isolation_level: str = setting(
        Kind.STRING, "read_uncommitted", f"What a share group sees of transactions. {_LATER}",
        choices=("read_committed", "read_uncommitted"), synonyms=["share.isolation.level"],
    )  # fmt: skip
    share_partition_max_record_locks: int = setting(
        Kind.INT, 2000, f"Records of one partition locked at one time. {_LATER}", minimum=100,
        synonyms=["group.share.partition.max.record.locks"],
    )  # fmt: skip
    share_record_lock_duration_ms: int = setting(
        Kind.INT, 30000, f"Time that a record is locked for a member. {_LATER}", minimum=1000,
        synonyms=["group.share.record.lock.duration.ms"],
    )  # fmt: skip
    share_renew_acknowledge_enable: bool = setting(
        Kind.BOOLEAN, True, f"Whether a lock may be renewed. {_LATER}",
        synonyms=["share.renew.acknowledge.enable"],
    )  # fmt: skip
    streams_session_timeout_ms: int = setting(
        Kind.INT, 45000, f"Session timeout of streams members. {_LATER}", minimum=1,
        synonyms=["group.streams.session.timeout.ms"],
    )  # fmt: skip
    streams_heartbeat_interval_ms: int = setting(
        Kind.INT, 5000, f"Heartbeat interval of streams members. {_LATER}", minimum=1,
        synonyms=["group.streams.heartbeat.interval.ms"],
    )  # fmt: skip
    streams_assignment_interval_ms: int = setting(
        Kind.INT, 1000, f"Shortest time between two assignments. {_LATER}", minimum=0,
        synonyms=["group.streams.assignment.interval.ms"],
    )  # fmt: skip
    streams_initial_rebalance_delay_ms: int = setting(
        Kind.INT, 3000, f"Time that the first assignment waits for more members. {_LATER}", minimum=0,
        synonyms=["group.streams.initial.rebalance.delay.ms"],
    )  # fmt: skip
    streams_num_standby_replicas: int = setting(
        Kind.INT, 0, f"Standby replicas of a task. {_LATER}", minimum=0,
        synonyms=["group.streams.num.standby.replicas"],
    )  # fmt: skip

    pykbroker_retry_policy: str | None = setting(
        Kind.STRING, None, _WINS,
        pattern="[A-Za-z0-9_-]+", pattern_text="a name of letters, digits, - and _",
        synonyms=["pykbroker.retry.policy"],
    )  # fmt: skip
    pykbroker_retry_max_attempts: int | None = setting(
        Kind.INT, None, _WINS, minimum=0, synonyms=["pykbroker.retry.max.attempts"]
    )
    pykbroker_retry_delay_ms: int | None = setting(
        Kind.LONG, None, _WINS, minimum=0, maximum=templates.LONGEST_MS,
        synonyms=["pykbroker.retry.delay.ms"],
    )  # fmt: skip
    pykbroker_retry_max_delay_ms: int | None = setting(
        Kind.LONG, None, _WINS, minimum=0, maximum=templates.LONGEST_MS,
        synonyms=["pykbroker.retry.max.delay.ms"],
    )  # fmt: skip
    pykbroker_retry_topic: str | None = setting(
        Kind.STRING, None, _WINS,
        pattern=templates.PER_GROUP, pattern_text=templates.PER_GROUP_TEXT,
        synonyms=["pykbroker.retry.topic"],
    )  # fmt: skip
    pykbroker_dead_letter_topic: str | None = setting(
        Kind.STRING, None, _WINS, pattern=templates.ANY, pattern_text=templates.ANY_TEXT,
        synonyms=["pykbroker.dead.letter.topic"],
    )  # fmt: skip

    @classmethod
    def from_overrides(cls, overrides: Mapping[str, str]) -> GroupConfig:
        """The effective settings of a group with these of its own; raises ConfigError."""
        table = settings_of(cls)
        values: dict[str, Value] = {}
        for name, text in overrides.items():
            row = table.get(name)
            if row is not None:
                values[row.field] = row.parse(text)
        # Each row's parse has the type of its field, which no type checker can see.
        return cls(**values)  # type: ignore[arg-type]


def check_group_overrides(
    overrides: Mapping[str, str], added: Extensions | None = None, before: Mapping[str, str] | None = None
) -> GroupConfig:
    """The effective settings, if a client may set exactly these, in place of ``before``.

    ``added`` is what plugins declare.  Raises ConfigError.
    """
    table = settings_of(GroupConfig)
    for name, text in overrides.items():
        if name not in table and not extensions.is_plugin_setting(name):
            raise unknown(name, text, table)
    if added is not None:
        extensions.check_values(added.group, overrides, before or {})
        extensions.check_names(added.names, overrides, before or {})
    config = GroupConfig.from_overrides(overrides)
    if config.pykbroker_retry_topic and config.pykbroker_retry_topic == config.pykbroker_dead_letter_topic:
        raise same_names(config.pykbroker_retry_topic)
    return config
