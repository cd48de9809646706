"""One broker for all client stories; every test has topics and groups of its own."""

from __future__ import annotations

import gc
import re
import uuid
import warnings
from collections.abc import Iterator

import pytest

from pykbroker.testing import BrokerThread


@pytest.fixture(autouse=True)
def _what_clients_leave_open() -> Iterator[None]:
    """kafka-python leaves sockets of failed connection attempts to the garbage collector.

    Collected here, they are not reported against a later test; sockets of ours still are.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def bootstrap(pykbroker_session: BrokerThread) -> str:
    """The address of the broker that the stories share."""
    return pykbroker_session.bootstrap


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic name that no other test uses; the topic does not exist yet."""
    name = re.sub(r"[^a-zA-Z0-9-]", "-", request.node.name)[:100]
    return f"{name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def group(topic: str) -> str:
    """A group id that no other test uses."""
    return f"group-of-{topic}"
