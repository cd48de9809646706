"""What lies between two images."""

from __future__ import annotations

from dataclasses import dataclass

from pykbroker.catalog.image import BROKER, GROUP, Image, Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What one or more proposals changed, announced together.

    ``created`` and ``changed`` (more partitions, other leaders or epochs) hold topics as they are now,
    ``deleted`` as they were; ``reconfigured`` have other settings of their own.  A topic that was
    deleted and created again is in both ``deleted`` and ``created``.  ``broker_settings``: settings of
    this or all brokers changed, so that any topic's effective settings may have.  ``exchanges``: names
    of those that were made, bound or unbound, or deleted.
    """

    before: Image
    after: Image
    created: tuple[Topic, ...] = ()
    deleted: tuple[Topic, ...] = ()
    changed: tuple[Topic, ...] = ()
    reconfigured: tuple[Topic, ...] = ()
    broker_settings: bool = False
    groups: tuple[str, ...] = ()
    exchanges: tuple[str, ...] = ()
    brokers: bool = False


def between(before: Image, after: Image) -> Delta:
    """What ``after`` has that ``before`` had not, and the reverse.

    Compares objects by identity first: two images share what did not change.
    """
    created, deleted, changed, reconfigured = [], [], [], []
    for name, old in before.topics.items():
        new = after.topics.get(name)
        if new is old:
            continue
        if new is None or new.topic_id != old.topic_id:
            deleted.append(old)
            continue
        if new.partitions is not old.partitions:
            changed.append(new)
        if new.config_version != old.config_version:
            reconfigured.append(new)
    for name, new in after.topics.items():
        was = before.topics.get(name)
        if was is None or was.topic_id != new.topic_id:
            created.append(new)
    altered = [key for key, value in after.settings.items() if before.settings.get(key) is not value]
    rebound = [
        name
        for name in {**before.exchanges, **after.exchanges}
        if before.exchanges.get(name) is not after.exchanges.get(name)
    ]
    return Delta(
        before=before,
        after=after,
        created=tuple(created),
        deleted=tuple(deleted),
        changed=tuple(changed),
        reconfigured=tuple(reconfigured),
        broker_settings=any(kind == BROKER for kind, _ in altered),
        groups=tuple(name for kind, name in altered if kind == GROUP),
        exchanges=tuple(rebound),
        brokers=before.brokers != after.brokers,
    )
