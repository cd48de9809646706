"""The brokers that interop tests run on. See README.md for what they need and how one is chosen."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from interop.kafka.container import start_kafka
from interop.kafka.jars import MissingToolError
from interop.probing import create_topic, unique, wait_for_coordinator
from interop.raw import Connection

T = TypeVar("T")

APACHE_KAFKA, PYKBROKER = "apache-kafka", "pykbroker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """A running broker: which one, and where."""

    name: str
    bootstrap: str

    def expect(self, *, apache_kafka: T, pykbroker: T) -> T:
        """What this broker should answer where pykbroker differs on purpose; the test says why."""
        return apache_kafka if self.name == APACHE_KAFKA else pykbroker


def give_up(reason: str) -> NoReturn:
    """Skips, or fails where nothing may be skipped (the environment variable CI is set)."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[Broker]:
    """A real Apache Kafka, one for the whole session."""
    try:
        kafka = start_kafka()
    except MissingToolError as error:
        give_up(str(error))
    try:
        yield Broker(name=APACHE_KAFKA, bootstrap=kafka.bootstrap)
    finally:
        kafka.close()


def start_pykbroker(data_dir: Path) -> AbstractContextManager[Any]:
    """A pykbroker that is not running yet, in a process of its own; skips where it cannot be imported."""
    try:
        from pykbroker.testing import BrokerProcess
    except ImportError as error:
        give_up(f"pykbroker cannot be imported: {error}; install it into this environment: pip install -e .")
    return BrokerProcess(data_dir=data_dir, settings={})


@pytest.fixture(scope="session")
def pykbroker_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """pykbroker in a process of its own, one for the whole session."""
    with start_pykbroker(tmp_path_factory.mktemp("pykbroker")) as process:
        yield Broker(name=PYKBROKER, bootstrap=process.bootstrap)


@pytest.fixture(scope="session", params=[APACHE_KAFKA, PYKBROKER])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each broker in turn: a probe that takes this runs on both."""
    fixture = "apache_kafka" if request.param == APACHE_KAFKA else "pykbroker_broker"
    chosen = request.getfixturevalue(fixture)
    assert isinstance(chosen, Broker)
    return chosen


@pytest.fixture
def connect(broker: Broker) -> Iterator[Callable[[], Connection]]:
    """Opens further connections to the broker, closed at the end of the test."""
    opened: list[Connection] = []

    def open_one() -> Connection:
        opened.append(Connection(broker.bootstrap))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture
def connection(connect: Callable[[], Connection]) -> Connection:
    """A raw connection to the broker."""
    return connect()


@pytest.fixture
def topic(connection: Connection) -> str:
    """A fresh topic with one partition."""
    name = unique("topic")
    create_topic(connection, name)
    return name


@pytest.fixture
def group(connection: Connection) -> str:
    """The id of a group that does not exist yet and whose coordinator is ready."""
    name = unique("group")
    wait_for_coordinator(connection, name)
    return name
