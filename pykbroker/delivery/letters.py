"""Dead letters as their readers see them: which are settled, and what may be ordered for them.

Which letters are settled is asked for by name in DescribeConfigs of the dead-letter topic
(:data:`SETTLED`): a JSON object, partition (text) to a list of offsets and ranges as in a nack, such as
``{"0": [5, [7, 9]]}``.  Where that is longer than a setting may be (:data:`MAX_BYTES`), it is an object
``{"pages": 3}``, and ``pykbroker.dead.letter.settled.0`` to ``.2`` are objects of the first kind, each
with a part of the ranges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pykbroker.delivery.nacks import Asked, Ranges

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.image import Topic

SETTLED: Final = "pykbroker.dead.letter.settled"
"""The read-only setting of a topic, described only to those who name it."""

MAX_BYTES: Final = 32_767
"""The longest text that all clients can read in an answer."""


def described(settled: Mapping[int, Ranges]) -> Mapping[str, str]:
    """The settings, by name, that say which letters are settled."""
    raise NotImplementedError


def why_not(catalog: Catalog, topic: Topic, asked: Asked) -> str | None:
    """Why an order of the reserved group on a partition of ``topic`` is refused; None: it is not.

    A replay is refused where there is nothing to replay to, and where it would loop: to the topic itself,
    to one with a role, to an exchange that routes into this topic.
    """
    raise NotImplementedError
