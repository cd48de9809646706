"""What every broker of these tests leaves behind is checked, whatever the test was about.

After each stop or kill of a BrokerThread or BrokerProcess the checker goes over its data directory; the
test fails if that has problems.  Tests that do damage on purpose say so: ``@pytest.mark.damages_data``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import pytest

P = ParamSpec("P")
T = TypeVar("T")


class HasData(Protocol):
    """A broker for tests."""

    data_dir: Path


B = TypeVar("B", bound=HasData)


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marker."""
    config.addinivalue_line("markers", "damages_data: data directories need not be sound after this test")


def _checked(stop: Callable[Concatenate[B, P], T], found: list[str]) -> Callable[Concatenate[B, P], T]:
    """``stop``, and then a check of what it has left."""
    from pykbroker.log import checkpoints
    from pykbroker.partitions.check import check

    @functools.wraps(stop)
    def stop_and_check(broker: B, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return stop(broker, *args, **kwargs)
        finally:
            # Without it no start came so far that there is data.
            if (broker.data_dir / checkpoints.META_PROPERTIES).exists():
                found.extend(str(problem) for problem in check(broker.data_dir).problems)

    return stop_and_check


@pytest.fixture(scope="session", autouse=True)
def _problems_on_disk() -> Iterator[list[str]]:
    """Problems found since the last look; at the end those of brokers that lived through the session."""
    from pykbroker.testing.process import BrokerProcess
    from pykbroker.testing.thread import BrokerThread

    found: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BrokerThread, "stop", _checked(BrokerThread.stop, found))
        patch.setattr(BrokerProcess, "stop", _checked(BrokerProcess.stop, found))
        patch.setattr(BrokerProcess, "kill", _checked(BrokerProcess.kill, found))
        yield found
    assert found == []


@pytest.fixture(autouse=True)
def _data_is_sound(request: pytest.FixtureRequest, _problems_on_disk: list[str]) -> Iterator[None]:
    """Fail the test whose broker left something wrong."""
    yield
    found = list(_problems_on_disk)
    _problems_on_disk.clear()
    if request.node.get_closest_marker("damages_data") is None:
        assert found == []
