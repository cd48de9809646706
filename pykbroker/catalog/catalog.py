"""The catalog's calls, whatever keeps it: read the image, propose changes, hear of deltas.

Rules: nobody else writes what the catalog holds; subscribers are told in the order of proposals,
synchronously, before the proposal returns; handlers touch no directories.
"""

from __future__ import annotations

import abc
import dataclasses
import logging
from collections.abc import Callable, Sequence

from pykbroker.catalog.changes import Change, Conflict
from pykbroker.catalog.delta import Delta, between
from pykbroker.catalog.exchanges import ExchangeRules
from pykbroker.catalog.image import BROKER, Image, Topic
from pykbroker.catalog.inheriting import inherited
from pykbroker.catalog.retry_rules import RetryRules
from pykbroker.config import BrokerConfig, TopicConfig

__all__ = ["Catalog", "Delta", "Subscriber"]

log = logging.getLogger(__name__)


Subscriber = Callable[[Delta], None]


class Catalog(abc.ABC):
    """What every backend offers."""

    def __init__(self, image: Image, config: BrokerConfig) -> None:
        self._image = image
        self._config = config
        self._effective = self._with_altered(image)
        self._retrying = RetryRules(image, self._effective)
        self._subscribers: list[Subscriber] = []
        self.exchange_rules = ExchangeRules()
        """What may be an exchange and be bound; the broker says."""

    @property
    def image(self) -> Image:
        """What exists now: durable, and announced to all subscribers."""
        return self._image

    @property
    def broker_config(self) -> BrokerConfig:
        """This broker's settings with what was altered at run time."""
        return self._effective

    def broker_config_of(self, image: Image) -> BrokerConfig:
        """The same as ``image`` has them, which may be one that is not announced yet."""
        altered = ("", str(self._config.node_id))
        if all(image.settings_of(BROKER, each) == self._image.settings_of(BROKER, each) for each in altered):
            return self._effective
        return self._with_altered(image)

    def topic_config(self, topic: Topic) -> TopicConfig:
        """A topic's effective settings."""
        own = inherited(self._image, self.retrying.by_role, topic)
        config = TopicConfig.from_overrides(self._effective, own)
        if config.pykbroker_exchange_type and "{topic}" in config.pykbroker_dead_letter_topic:
            name = config.pykbroker_dead_letter_topic.replace("{topic}", topic.name)
            config = dataclasses.replace(config, pykbroker_dead_letter_topic=name)
        return config

    @property
    def retrying(self) -> RetryRules:
        """Which retry policy holds where; :mod:`pykbroker.catalog.retrying` asks it."""
        if not self._retrying.fits(self._image, self._effective):
            self._retrying = RetryRules(self._image, self._effective)
        return self._retrying

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call ``subscriber`` with each delta from now on; the result ends that."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    @abc.abstractmethod
    async def propose(self, changes: Sequence[Change]) -> Image:
        """Make all of ``changes`` durable and visible, or none; returns the image after them.

        Raises :class:`Conflict`, :class:`~pykbroker.catalog.changes.ObjectTooLarge`, or KafkaError
        (KAFKA_STORAGE_ERROR) when it cannot be written; then nothing happened.
        """

    async def update(self, decide: Callable[[Image], Sequence[Change]]) -> Image:
        """Propose what ``decide`` makes of the newest image, again after each conflict.

        ``decide`` must not wait; what it raises is raised.  Nothing is proposed when it returns an
        empty sequence; the image that is returned then needs no change either, so that what somebody
        else has just proposed is waited for.
        """
        while True:
            changes = decide(self.newest())
            if not changes:
                if not decide(self._image):
                    return self._image
                await self.settle()
                continue
            try:
                return await self.propose(changes)
            except Conflict as conflict:
                log.info("a proposal lost a race and is decided again: %s", conflict)

    @abc.abstractmethod
    async def settle(self) -> None:
        """Wait until the proposals on their way are durable and announced, or taken back."""

    def newest(self) -> Image:
        """The image that a proposal is checked against: with proposals that are still on their way."""
        return self._image

    def _publish(self, image: Image) -> None:
        """Make ``image`` what exists now, and tell the subscribers what that changes."""
        delta = between(self._image, image)
        self._image = image
        if delta.broker_settings:
            self._effective = self._with_altered(image)
        for subscriber in tuple(self._subscribers):
            subscriber(delta)

    def _with_altered(self, image: Image) -> BrokerConfig:
        own = str(self._config.node_id)
        return self._config.with_dynamic(
            image.settings_of(BROKER, "").values, image.settings_of(BROKER, own).values
        )
