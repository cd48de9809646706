"""How an API module says what it serves, and what a handler is given.

Each module of this package that does not start with an underscore serves one Kafka API and ends in
one registration::

    @api(HeartbeatRequest, HeartbeatResponse, failed=failed)
    async def handle(ctx: RequestContext, request: HeartbeatRequest) -> HeartbeatResponse: ...

Keys and versions come from the message declarations, and ApiVersions is computed from what is
registered: adding an API edits no other file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

from pykbroker.errors import ErrorCode
from pykbroker.plugins import Plugins
from pykbroker.protocol.schema import Message

if TYPE_CHECKING:
    from pykbroker.apis._fetch_sessions import FetchSessions
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.policies import Policies
    from pykbroker.catalog.producer_ids import ProducerIds
    from pykbroker.catalog.topics import TopicAdmin
    from pykbroker.clock import Clock
    from pykbroker.config import BrokerConfig
    from pykbroker.delivery.service import Delivery
    from pykbroker.events import RecordsAppended
    from pykbroker.forwarding.service import Forwarding
    from pykbroker.groups.service import GroupCoordinator
    from pykbroker.partitions.admission import Pipeline
    from pykbroker.partitions.manager import Partitions

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)
R_co = TypeVar("R_co", bound=Message, covariant=True)


@dataclass(slots=True, kw_only=True)
class Services:
    """The rooms that handlers talk to; made once by the broker."""

    config: BrokerConfig
    clock: Clock
    catalog: Catalog
    topics: TopicAdmin
    partitions: Partitions
    groups: GroupCoordinator
    producer_ids: ProducerIds
    fetch_sessions: FetchSessions
    plugins: Plugins = field(default_factory=Plugins.none)
    policies: Policies | None = None
    """Who must agree when settings are altered."""
    admission: Mapping[str | bytes, Pipeline] = field(default_factory=dict)
    """What batches have to pass, by topic name and by id; only topics that name plugins are here."""
    forwarding: Forwarding | None = None
    """What moves records: out of exchanges, and to topics with a partitioner."""
    delivery: Delivery | None = None
    """What becomes of failed deliveries, and of records that are to be delayed."""
    on_appended: Callable[[RecordsAppended], None] | None = None
    """Who wants to hear of every batch that a client appends, if anybody."""


@dataclass(slots=True, kw_only=True)
class RequestContext:
    """Who asks, in which version, and when.

    ``now_ms`` is the wall clock in milliseconds, ``now`` the monotonic clock in seconds, both read
    when the request was taken from its connection.  ``request_bytes`` is the frame's size.  ``apis`` is
    what the server serves, by key.  ``listener`` is the name of the listener that the client came by,
    which says at which endpoints it reaches brokers; empty: the first of each.
    """

    services: Services
    api_key: int
    version: int
    client_id: str | None
    client_host: str
    connection_id: int
    now_ms: int
    now: float
    request_bytes: int = 0
    listener: str = ""
    apis: Mapping[int, Api[Message, Message]] = field(default_factory=dict)


class Parked(Protocol[R_co]):
    """An answer that a hot handler cannot give yet.

    The driver calls :meth:`start` once, then :meth:`answer` whenever ``wake`` was called, and a last
    time with ``expired=True`` when the monotonic clock passes ``deadline``; that call must give an
    answer.  :meth:`close` is always called at the end, also when the client is gone.  No method waits.
    """

    deadline: float

    def start(self, wake: Callable[[], None]) -> None: ...

    def answer(self, *, expired: bool) -> R_co | None: ...

    def close(self) -> None: ...


class NoAnswer(Exception):
    """Raised by Produce with acks=0: nothing is sent; ``close`` asks to close the connection."""

    def __init__(self, *, close: bool = False) -> None:
        super().__init__("no answer is sent")
        self.close = close


Handler = Callable[[RequestContext, Q], "R | Parked[R] | Awaitable[R]"]
Failed = Callable[[RequestContext, Q, ErrorCode], R]


@dataclass(frozen=True, slots=True, kw_only=True)
class Api(Generic[Q, R]):
    """One served API: its messages, its handler, and how its answer says that it failed.

    ``announced_min`` is the lowest version that ApiVersions names, where that is lower than what is
    served (Produce: librdkafka turns compression off unless 0 is announced, apache/kafka#18727).
    ``waits_for_others``: the handler may wait long for other clients, and is cancelled when its own is
    gone; any other is carried through.
    """

    key: int
    name: str
    versions: tuple[int, int]
    announced_min: int
    request: type[Q]
    response: type[R]
    handle: Handler[Q, R]
    failed: Failed[Q, R]
    waits_for_others: bool = False


_registered: dict[int, Api[Message, Message]] = {}


def api(
    request: type[Q],
    response: type[R],
    *,
    failed: Failed[Q, R],
    announced_min: int | None = None,
    waits_for_others: bool = False,
) -> Callable[[Handler[Q, R]], Handler[Q, R]]:
    """Register the decorated function as the handler of the API of ``request``.

    ``failed(ctx, request, code)`` builds the answer, in the response's own shape, for a handler that
    raised: every part that the request asked for carries ``code``.  The others are described at
    :class:`Api`.
    """

    def register(handle: Handler[Q, R]) -> Handler[Q, R]:
        entry = Api(
            key=request.message_key,
            name=request.__name__.removesuffix("Request"),
            versions=request.message_versions,
            announced_min=request.message_versions[0] if announced_min is None else announced_min,
            request=request,
            response=response,
            handle=handle,
            failed=failed,
            waits_for_others=waits_for_others,
        )
        # The registry holds APIs of all message types; the dispatcher pairs them up again by key.
        _registered[request.message_key] = cast("Api[Message, Message]", entry)
        return handle

    return register


def registered() -> Mapping[int, Api[Message, Message]]:
    """What the modules imported so far have registered, by key."""
    return dict(sorted(_registered.items()))


def load() -> Mapping[int, Api[Message, Message]]:
    """Import every API module of this package and return what they registered, by key."""
    package = importlib.import_module("pykbroker.apis")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"pykbroker.apis.{module.name}")
    return registered()
