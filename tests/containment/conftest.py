"""What every story of a harmful plugin ends with: the broker still serves, and has lost nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pykbroker.testing import BrokerThread
from tests.containment.talk import Talk


@pytest.fixture
def harmed() -> Iterator[Callable[..., Talk]]:
    """Start a broker with these plugins and settings, with topic ``plain`` that they do not concern.

    At the end the broker must still take and hold what is produced to that topic.
    """
    stories: list[tuple[BrokerThread, Talk]] = []

    def start(*plugins: object, timeout_ms: int = 10_000, **settings: object) -> Talk:
        broker = BrokerThread(
            plugins=plugins, settings={"pykbroker.plugin.timeout.ms": timeout_ms, **settings}
        )
        broker.__enter__()
        talk = Talk(broker.bootstrap)
        stories.append((broker, talk))
        assert talk.create("plain") == 0
        assert talk.produce("plain", b"before").error_code == 0
        return talk

    yield start
    for broker, talk in stories:
        assert talk.produce("plain", b"after").error_code == 0
        assert talk.values("plain") == [b"before", b"after"]
        talk.close()
        broker.__exit__(None, None, None)
