"""One broker for all client stories; every test has topics and groups of its own."""

from __future__ import annotations

import re
import uuid

import pytest

from pykbroker.testing import BrokerThread


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
