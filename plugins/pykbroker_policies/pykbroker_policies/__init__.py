"""Policies of pykbroker: ``topic-name``, ``partition-limit``, ``retention-floor``.

All policies that are registered apply to every topic, so each of these says nothing until its setting
does.
"""

from __future__ import annotations

from collections.abc import Iterable

from pykbroker import Component, ConfigPolicy, Kind, PluginSetting, TopicPolicy, hookimpl
from pykbroker_policies.rules import partition_limit, retention_floor, topic_name

FLOOR = PluginSetting(
    key="ms",
    kind=Kind.LONG,
    default=-1,
    minimum=-1,
    doc="The shortest retention.ms that a topic may be given; -1: any.",
)


@hookimpl
def pykbroker_register_topic_policies() -> Iterable[Component[TopicPolicy]]:
    """What new topics are held to."""
    return [
        Component(
            "topic-name",
            topic_name,
            settings=[
                PluginSetting(
                    key="pattern",
                    kind=Kind.STRING,
                    default="",
                    doc="A regular expression that the whole name of a new topic must match. Empty: any.",
                ),
            ],
            doc="Holds the names of new topics to a pattern.",
        ),
        Component(
            "partition-limit",
            partition_limit,
            settings=[
                PluginSetting(
                    key="max",
                    kind=Kind.INT,
                    default=0,
                    minimum=0,
                    doc="The most partitions that a topic may have. 0: no limit.",
                ),
            ],
            doc="Limits the partitions of a topic.",
        ),
        Component(
            "retention-floor", retention_floor, settings=[FLOOR], doc="Refuses topics that keep too little."
        ),
    ]


@hookimpl
def pykbroker_register_config_policies() -> Iterable[Component[ConfigPolicy]]:
    """What altered settings are held to."""
    return [
        Component(
            "retention-floor",
            retention_floor,
            settings=[FLOOR],
            doc="Refuses settings with which a topic keeps too little.",
        )
    ]
