"""What a retry topic's flow decides about what arrives: the policy's answer, as a held record."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pykbroker.catalog.retrying import retry_settings
from pykbroker.delivery.arriving import Decide, Decided
from pykbroker.delivery.deciding import Fate, Outcome, decide
from pykbroker.delivery.held import Held, Kind

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.retrying import Role
    from pykbroker.delivery.asking import Policies
    from pykbroker.delivery.telling import Telling
    from pykbroker.forwarding.copying import Source


class RetryDecider:
    """A :class:`~pykbroker.delivery.arriving.Decider` for one partition of the flow of ``role``."""

    def __init__(
        self, role: Role, partition: int, catalog: Catalog, policies: Policies, telling: Telling
    ) -> None:
        self._role = role
        self._partition = partition
        self._catalog = catalog
        self._policies = policies
        self._telling = telling

    def begin(self, now_ms: int) -> Decide:
        """Decide with the settings that the group has now."""
        role, partition, telling = self._role, self._partition, self._telling
        settings = retry_settings(self._catalog, role.origin, role.group)
        ask = self._policies.ask(role, settings)

        def one(record: Source) -> Decided:
            outcome = decide(role, partition, record, settings, ask, now_ms)
            tell = partial(telling.decided, outcome, settings.retry_topic)
            return Decided(
                outcome.record, _held(outcome, partition), tell if telling.hears(outcome.fate) else None
            )

        return one


def _held(outcome: Outcome, partition: int) -> Held:
    match outcome.fate:
        case Fate.RETRY:
            return Held(outcome.due_ms, Kind.FACE, partition)
        case Fate.DEAD_LETTER:
            return Held(outcome.due_ms, Kind.NAMED, partition, outcome.topic or "")
        case Fate.DISCARD:
            return Held(0, Kind.NOTHING, partition)
