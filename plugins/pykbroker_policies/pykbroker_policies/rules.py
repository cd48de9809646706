"""The rules: small objects that refuse, or say nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pykbroker import BuildContext, ConfigPolicyContext, PolicyViolation, TopicPolicyContext


class TopicName:
    """New topics have names that match."""

    def __init__(self, pattern: re.Pattern[str] | None) -> None:
        self._pattern = pattern

    def check(self, ctx: TopicPolicyContext) -> None:
        """Refuse a new topic with another name; what is there already may grow."""
        if self._pattern is not None and ctx.created and not self._pattern.fullmatch(ctx.topic):
            raise PolicyViolation(
                f"the name of topic {ctx.topic} does not match {self._pattern.pattern} "
                "(pykbroker.plugin.topic-name.pattern)"
            )


class PartitionLimit:
    """Topics have at most ``most`` partitions; 0 is no limit."""

    def __init__(self, most: int) -> None:
        self._most = most

    def check(self, ctx: TopicPolicyContext) -> None:
        """Refuse a topic that is to have more."""
        if 0 < self._most < ctx.partitions:
            raise PolicyViolation(
                f"topic {ctx.topic} would have {ctx.partitions} partitions, allowed are {self._most} "
                "(pykbroker.plugin.partition-limit.max)"
            )


class RetentionFloor:
    """Whoever sets a topic's ``retention.ms`` sets at least ``least``; -1 is no rule.

    A topic that does not set it has the broker's, which is the business of who runs the broker.
    """

    def __init__(self, least: int) -> None:
        self._least = least

    def check(self, ctx: TopicPolicyContext | ConfigPolicyContext) -> None:
        """Refuse a shorter retention, unless it was there before."""
        if isinstance(ctx, TopicPolicyContext):
            self._check(ctx.topic, {}, ctx.settings if ctx.created else {})
        elif ctx.resource == "topic":
            self._check(ctx.name, ctx.before, ctx.after)

    def _check(self, topic: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        text = after.get("retention.ms")
        if text is None or text == before.get("retention.ms"):
            return
        if 0 <= int(text) < self._least:
            raise PolicyViolation(
                f"topic {topic} would keep records for {text} ms, the least is {self._least} "
                "(pykbroker.plugin.retention-floor.ms)"
            )


def topic_name(build: BuildContext) -> TopicName:
    """The policy ``topic-name``.  Raises re.error for a pattern that is none."""
    pattern = build.settings.text("pattern")
    return TopicName(re.compile(pattern) if pattern else None)


def partition_limit(build: BuildContext) -> PartitionLimit:
    """The policy ``partition-limit``."""
    return PartitionLimit(build.settings.integer("max"))


def retention_floor(build: BuildContext) -> RetentionFloor:
    """The policy ``retention-floor``, for topics and for settings."""
    return RetentionFloor(build.settings.integer("ms"))
