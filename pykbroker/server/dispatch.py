"""From a frame to its answer: header, API, decode, handle, encode; and what is said when that fails.

What fails where: bytes that are no request we serve raise ProtocolError, and the connection is closed
without an answer.  A handler that raises KafkaError, or fails, is answered in the response's own shape
(``Api.failed``) and the connection lives; Produce with acks=0 has no answer to fail in, so it closes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Coroutine, Mapping
from dataclasses import dataclass
from typing import cast

from pykbroker.apis._registry import Api, NoAnswer, Parked, RequestContext, Services
from pykbroker.clock import Clock
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.codec import Reader, Regions, Writer, reader, writer
from pykbroker.protocol.errors import ProtocolError
from pykbroker.protocol.frames import (
    API_VERSIONS,
    RequestHeader,
    body_start,
    has_tagged_response_header,
    parse_request_header,
    write_response,
)
from pykbroker.protocol.messages.produce import ProduceRequest
from pykbroker.protocol.schema import Message
from pykbroker.server.faults import Fault, Faults
from pykbroker.server.limits import ServerLimits
from pykbroker.server.waiting import Waiting

log = logging.getLogger(__name__)

Result = Message | Parked[Message] | Awaitable[object]
"""What a handler returns."""


class CloseConnection(Exception):
    """The connection is to be closed without an answer, and nothing is wrong with the client's bytes."""


@dataclass(frozen=True, slots=True)
class Route:
    """One version of one API: the functions that its requests need."""

    api: Api[Message, Message]
    read: Reader[Message]
    write: Writer[Message]
    tagged: bool
    """Whether the answer's header has a tagged section."""


@dataclass(slots=True, eq=False)
class Call:
    """A request whose answer is not there yet: ``result`` is to be awaited, or is parked."""

    route: Route
    ctx: RequestContext
    request: Message
    correlation_id: int
    result: Awaitable[object] | Waiting

    @property
    def may_wait_long(self) -> bool:
        """Whether it waits for something that its client must be there for."""
        return self.route.api.waits_for_others or isinstance(self.result, Waiting)

    def discard(self) -> None:
        """Its connection is gone before the answer was waited for."""
        if isinstance(self.result, Waiting | Coroutine):
            self.result.close()


@dataclass(slots=True, eq=False)
class Peer:
    """Who is at the other end, and the answers that are to be sent there.

    ``client_id`` is what its last request said, ``requests`` counts them.
    """

    host: str
    connection_id: int
    listener: str
    out: bytearray
    regions: Regions
    client_id: str | None = None
    requests: int = 0


@dataclass(slots=True, eq=False)
class Counters:
    """Counted here; see ServerStatistics."""

    requests: int = 0
    failures: int = 0


class Dispatcher:
    """Handles frames for all connections of one server."""

    def __init__(
        self,
        services: Services,
        apis: Mapping[int, Api[Message, Message]],
        limits: ServerLimits,
        clock: Clock,
        faults: Faults | None,
    ) -> None:
        self._services = services
        self._apis = apis
        self._limits = limits
        self._clock = clock
        self._faults = faults
        self._routes: dict[tuple[int, int], Route] = {}
        self._reported: set[tuple[str, type[BaseException], int]] = set()
        self.counters = Counters()

    def handle(self, frame: memoryview, peer: Peer, now_ms: int, now: float) -> Call | None:
        """Answer the request in ``frame`` into ``peer.out``, or say what its answer waits for.

        Raises ProtocolError if the frame is no request we serve, CloseConnection if the handler asks for it.
        """
        header = parse_request_header(frame)
        route = self._routes.get((header.api_key, header.api_version))
        if route is None:
            route = self._find_route(header)
            if route is None:
                self._answer_unknown_version(header, peer, now_ms, now)
                return None
        api = route.api
        if len(frame) > self._limits.max_plain_request_bytes and api.request is not ProduceRequest:
            raise ProtocolError(f"a {api.name} request of {len(frame)} bytes")
        request, _ = route.read(frame, body_start(frame, header, api.request))
        self.counters.requests += 1
        peer.requests += 1
        peer.client_id = header.client_id
        ctx = RequestContext(
            services=self._services,
            api_key=header.api_key,
            version=header.api_version,
            client_id=header.client_id,
            client_host=peer.host,
            connection_id=peer.connection_id,
            now_ms=now_ms,
            now=now,
            request_bytes=len(frame),
            listener=peer.listener,
            apis=self._apis,
        )
        result: Message | Awaitable[object] | Waiting | None
        try:
            if self._faults is not None and (fault := self._faults.take(api.key, api.name)) is not None:
                given = self._faulty(fault, route, ctx, request)
            else:
                given = api.handle(ctx, request)
            result = given if isinstance(given, (Message, Awaitable)) else Waiting(given)
        except Exception as error:  # noqa: BLE001  # a connection is one of the two boundaries for broad catches
            result = self.failed(route, ctx, request, error)
        if isinstance(result, Message):
            self._write(route, ctx, request, header.correlation_id, result, peer)
            return None
        if result is None:
            return None
        return Call(route, ctx, request, header.correlation_id, result)

    def finish(self, call: Call, answer: object, peer: Peer) -> None:
        """Write the answer to ``call`` into ``peer.out``; raises CloseConnection."""
        if not isinstance(answer, Message):
            error = TypeError(f"the handler gave {answer!r} as the answer")
            self.fail(call, error, peer)
        else:
            self._write(call.route, call.ctx, call.request, call.correlation_id, answer, peer)

    def fail(self, call: Call, error: Exception, peer: Peer) -> None:
        """Answer that ``call`` failed; raises CloseConnection if there is no answer to do it in."""
        answer = self.failed(call.route, call.ctx, call.request, error)
        if answer is not None:
            self._write(call.route, call.ctx, call.request, call.correlation_id, answer, peer)

    def failed(self, route: Route, ctx: RequestContext, request: Message, error: Exception) -> Message | None:
        """The answer to a request whose handler raised ``error``; None if none is sent."""
        if isinstance(error, NoAnswer):
            if error.close:
                raise CloseConnection(f"{route.api.name} failed and its sender asked for no answer")
            return None
        if isinstance(error, CloseConnection):
            raise error
        if isinstance(error, KafkaError):
            code = error.code
        else:
            self._report(route.api.name, ctx, error)
            code = ErrorCode.UNKNOWN_SERVER_ERROR
        if isinstance(request, ProduceRequest) and request.acks == 0:
            raise CloseConnection("Produce failed and its sender asked for no answer") from error
        try:
            return route.api.failed(ctx, request, code)
        except Exception as second:
            self._report(route.api.name, ctx, second)
            raise CloseConnection(f"{route.api.name} failed, and so did its error answer") from second

    # -- inside -----------------------------------------------------------------------------------

    def _find_route(self, header: RequestHeader) -> Route | None:
        """The route of a request seen for the first time; None for an ApiVersions of an unknown version."""
        api = self._apis.get(header.api_key)
        if api is None:
            raise ProtocolError(f"unknown API key {header.api_key}")
        version = header.api_version
        if not api.versions[0] <= version <= api.versions[1]:
            if api.key == API_VERSIONS:
                return None
            raise ProtocolError(
                f"{api.name} version {version}, served: {api.versions[0]} to {api.versions[1]}"
            )
        route = Route(
            api,
            reader(api.request, version),
            writer(api.response, version),
            has_tagged_response_header(api.response, version),
        )
        self._routes[api.key, version] = route
        return route

    def _answer_unknown_version(self, header: RequestHeader, peer: Peer, now_ms: int, now: float) -> None:
        """ApiVersions from the future: version 0 of the answer, which every client can read (KIP-511)."""
        self.counters.requests += 1
        api = self._apis[API_VERSIONS]
        ctx = RequestContext(
            services=self._services,
            api_key=API_VERSIONS,
            version=0,
            client_id=header.client_id,
            client_host=peer.host,
            connection_id=peer.connection_id,
            now_ms=now_ms,
            now=now,
            apis=self._apis,
        )
        answer = api.failed(ctx, api.request(), ErrorCode.UNSUPPORTED_VERSION)
        write_response(
            peer.out, peer.regions, header.correlation_id, writer(api.response, 0), answer, tagged=False
        )

    def _write(
        self,
        route: Route,
        ctx: RequestContext,
        request: Message,
        correlation_id: int,
        answer: Message,
        peer: Peer,
    ) -> None:
        try:
            write_response(peer.out, peer.regions, correlation_id, route.write, answer, tagged=route.tagged)
        except Exception as error:  # noqa: BLE001  # an answer that cannot be encoded is a handler that failed
            second = self.failed(route, ctx, request, error)
            if second is None:
                return
            try:
                write_response(
                    peer.out, peer.regions, correlation_id, route.write, second, tagged=route.tagged
                )
            except Exception as again:
                self._report(route.api.name, ctx, again)
                raise CloseConnection(f"{route.api.name}'s error answer cannot be encoded") from again

    def _faulty(self, fault: Fault, route: Route, ctx: RequestContext, request: Message) -> Result:
        if fault.delay_s:
            return self._delayed(fault, route, ctx, request)
        if fault.drop:
            raise CloseConnection(f"{route.api.name} dropped as scripted")
        if fault.error is not None:
            raise KafkaError(fault.error, "scripted fault")
        return route.api.handle(ctx, request)

    async def _delayed(self, fault: Fault, route: Route, ctx: RequestContext, request: Message) -> object:
        await self._clock.wait_until(self._clock.monotonic() + fault.delay_s)
        if fault.drop:
            raise CloseConnection(f"{route.api.name} dropped as scripted")
        if fault.error is not None:
            raise KafkaError(fault.error, "scripted fault")
        result = route.api.handle(ctx, request)
        return await cast("Awaitable[object]", result) if hasattr(result, "__await__") else result

    def _report(self, name: str, ctx: RequestContext, error: Exception) -> None:
        """Log a failure of ours: with its traceback the first time, in one line when it comes again."""
        self.counters.failures += 1
        line = error.__traceback__
        while line is not None and line.tb_next is not None:
            line = line.tb_next
        place = (name, type(error), line.tb_lineno if line is not None else 0)
        first = place not in self._reported
        if first and len(self._reported) < 1000:
            self._reported.add(place)
        log.error(
            "request failed api=%s version=%d client_id=%s peer=%s error=%r%s",
            name, ctx.version, ctx.client_id, ctx.client_host, error,
            "" if first else " (traceback logged before)",
            exc_info=error if first else None,
        )  # fmt: skip
