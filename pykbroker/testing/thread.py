"""A broker in a thread of the test's own process: starts in a moment, and its clock can be moved."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, TypeVarTuple

import trio

from pykbroker.broker import Broker, cause_of
from pykbroker.clock import MovableClock
from pykbroker.config import BrokerConfig
from pykbroker.errors import ErrorCode
from pykbroker.server.faults import Fault
from pykbroker.testing._settings import setting_text

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class BrokerThread:
    """A whole broker on a trio loop in a thread; ``with`` starts and stops it.

    ``settings`` are broker settings by Kafka's names, ``plugins`` module names, files or plugin objects.
    Without ``data_dir`` the data lives in a temporary directory that is removed at the end.  The methods
    may be called from any thread but the broker's.
    """

    def __init__(
        self,
        *,
        data_dir: Path | str | None = None,
        settings: Mapping[str, object] | None = None,
        plugins: Sequence[object] = (),
        listen: str = "127.0.0.1:0",
    ) -> None:
        self.data_dir = (
            Path(data_dir) if data_dir is not None else Path(tempfile.mkdtemp(prefix="pykbroker-"))
        )
        self.settings = dict(settings or {})
        self.plugins = tuple(plugins)
        self.clock = MovableClock()
        self._temporary = data_dir is None
        self._listen = listen
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope: trio.CancelScope | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._broker: Broker | None = None

    @property
    def broker(self) -> Broker:
        """The running broker; touch it only through :meth:`run`."""
        if self._broker is None:
            raise RuntimeError(
                "the broker is not running: call start() or use `with BrokerThread() as broker:`"
            )
        return self._broker

    @property
    def bootstrap(self) -> str:
        """What a client takes as ``bootstrap_servers``: ``host:port``."""
        return self.broker.bootstrap

    def start(self) -> Self:
        """Start and return when the broker listens.  Raises what its start raised."""
        if self._thread is not None:
            raise RuntimeError("the broker is already running")
        self._ready.clear()
        self._thread = threading.Thread(target=self._main, name="pykbroker", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self.stop()
        return self

    def stop(self) -> None:
        """Stop as SIGTERM would: answers leave, everything is flushed.  Raises what the broker died of."""
        thread, token, scope = self._thread, self._token, self._scope
        if thread is None:
            return
        if token is not None and scope is not None:
            try:
                token.run_sync_soon(scope.cancel)
            except trio.RunFinishedError:
                pass  # it ended by itself; the failure is raised below
        thread.join()
        self._thread = self._token = self._scope = self._broker = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def restart(self) -> Self:
        """Stop and start on the same data, the same settings and the same port."""
        self._listen = self.bootstrap
        self.stop()
        return self.start()

    def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call ``fn(*args)`` in the broker's thread and return its result."""
        assert self._token is not None, "the broker is not running"
        return trio.from_thread.run_sync(fn, *args, trio_token=self._token)

    def run_async(self, fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Await ``fn(*args)`` in the broker's thread and return its result."""
        assert self._token is not None, "the broker is not running"
        return trio.from_thread.run(fn, *args, trio_token=self._token)

    def advance(self, seconds: float, *, sessions: bool = False) -> None:
        """Move the broker's wall clock: retention, compaction lag, expiry, retry delays.

        With ``sessions`` what live clients answer to moves too: sessions, rebalances, long polls.  Failed
        deliveries that clients have had acknowledged are decided about before, so that their delays begin
        at the old time.
        """
        delivery = self.broker.services.delivery
        if delivery is not None:
            self.run_async(delivery.decided)
        self.run(lambda: self.clock.advance(seconds, sessions=sessions))

    def fail(
        self,
        api: str | int | None = None,
        *,
        error: ErrorCode | str | int | None = None,
        delay_s: float = 0.0,
        drop: bool = False,
        count: int | None = 1,
    ) -> Fault:
        """Spoil the next ``count`` requests (None: all) of an API, by name ("Produce") or key.

        ``error`` is answered instead of doing the work (a code, its number or its name), ``drop``
        closes the connection without an answer, ``delay_s`` comes before either, or alone.  The result
        counts its ``hits``.
        """
        if isinstance(error, str):
            error = ErrorCode[error]
        code = None if error is None else ErrorCode(error)
        fault = Fault(api=api, count=count, error=code, delay_s=delay_s, drop=drop)
        return self.run(lambda: self.broker.faults.add(fault))

    def heal(self) -> None:
        """Take back everything that :meth:`fail` asked for."""
        self.run(lambda: self.broker.faults.clear())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            if self._temporary:
                shutil.rmtree(self.data_dir, ignore_errors=True)

    def _config(self) -> BrokerConfig:
        sets = [f"{name}={setting_text(value)}" for name, value in self.settings.items()]
        sets += [f"log.dirs={self.data_dir}", f"listeners=PLAINTEXT://{self._listen}"]
        return BrokerConfig.load(sets=sets)

    def _main(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as failure:  # noqa: BLE001  # handed to the test's thread by stop()
            self._failure = cause_of(failure)
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        broker = Broker(self._config(), clock=self.clock, plugins=self.plugins)
        self._token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(broker.run)
                self._broker = broker
                self._ready.set()
