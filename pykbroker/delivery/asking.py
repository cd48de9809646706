"""Asking retry policies: built once per topic, group and set of settings, and kept from doing harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pykbroker.components import RetryContext, RetryDecision
from pykbroker.plugins import Plugins

if TYPE_CHECKING:
    from pykbroker.catalog.image import Image
    from pykbroker.catalog.retrying import RetrySettings, Role


class Policies:
    """The retry policies of one broker.  ``image()`` is the catalog's current image."""

    def __init__(self, plugins: Plugins, image: Callable[[], Image]) -> None:
        raise NotImplementedError

    def ask(self, role: Role, settings: RetrySettings) -> Callable[[RetryContext], RetryDecision | None]:
        """What asks the policy of ``role`` under ``settings``, for
        :func:`~pykbroker.delivery.deciding.decide`.  Cheap enough to be called for each batch.

        It answers None, after the log has named policy and topic, where the policy is missing, raises or
        answers nonsense.  The policy ``none`` answers DeadLetter(): what has arrived although nothing
        retries it (any more) is kept.
        """
        raise NotImplementedError
