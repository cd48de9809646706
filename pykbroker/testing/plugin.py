"""The pytest plugin: fixtures ``pykbroker`` and ``pykbroker_session``, marker ``pykbroker``.

pytest imports this module in every test run of everybody who has pykbroker installed, whether the
run uses a broker or not: it imports nothing but what pytest has loaded anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pykbroker.testing.thread import BrokerThread

_MARKER = (
    "pykbroker(settings={...}, plugins=[...]): settings (Kafka's names) and plugins of the broker that "
    "the fixture `pykbroker` starts for this test"
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)


def _marked(node: pytest.Item) -> tuple[Mapping[str, object], Sequence[object]]:
    """The settings and plugins of the test's markers; the closest marker wins, key by key."""
    settings: dict[str, object] = {}
    plugins: list[object] = []
    for marker in reversed(list(node.iter_markers("pykbroker"))):
        unknown = set(marker.kwargs) - {"settings", "plugins"}
        if marker.args or unknown:
            raise pytest.UsageError(
                f"{node.nodeid}: @pytest.mark.pykbroker got {sorted(unknown) or marker.args}, "
                "allowed: settings={...}, plugins=[...]"
            )
        settings.update(marker.kwargs.get("settings", {}))
        plugins.extend(marker.kwargs.get("plugins", ()))
    return settings, plugins


@pytest.fixture
def pykbroker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrokerThread]:
    """A broker of this test's own, in a thread of this process; gone when the test ends.

    Its address is ``pykbroker.bootstrap``.  Settings come from ``@pytest.mark.pykbroker(settings={...})``.
    """
    from pykbroker.testing.thread import BrokerThread

    settings, plugins = _marked(request.node)
    data_dir = tmp_path_factory.mktemp("pykbroker")
    with BrokerThread(data_dir=data_dir, settings=settings, plugins=plugins) as broker:
        yield broker


@pytest.fixture(scope="session")
def pykbroker_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerThread]:
    """One broker for all tests that ask for it: give topics and groups names of their own."""
    from pykbroker.testing.thread import BrokerThread

    with BrokerThread(data_dir=tmp_path_factory.mktemp("pykbroker")) as broker:
        yield broker
