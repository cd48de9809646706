"""Partitioners and exchange types that are gone at the next start (for the others see tests/containment)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import monotonic

import pytest

from pykbroker.errors import ErrorCode
from pykbroker.testing import BrokerThread
from tests.containment.talk import Talk

PLUGIN = """
from pykbroker import Component, Kind, PluginSetting, hookimpl

class All:
    def choose(self, ctx):
        return 0
    def validate(self, binding):
        return None
    def compile(self, bindings):
        self.bindings = bindings
        return self
    def match(self, ctx):
        return self.bindings

SETTING = PluginSetting(key="size", kind=Kind.INT, default=1, doc="A size.", scopes=frozenset({"topic"}))
ALL = [Component("lost", lambda ctx: All(), settings=[SETTING])]

@hookimpl
def pykbroker_register_partitioners():
    return ALL

@hookimpl
def pykbroker_register_exchange_types():
    return ALL
"""

NEEDY: Mapping[str, Mapping[str, str]] = {
    "partitioned": {"pykbroker.partitioner": "lost"},
    "exchange": {
        "pykbroker.exchange.type": "lost",
        "pykbroker.exchange.keep": "true",
        "pykbroker.exchange.bindings": '[{"to": "plain"}]',
    },
}


@pytest.fixture
def lost(tmp_path: Path) -> Path:
    """The file of the plugin that will be lost."""
    file = tmp_path / "lost_plugin.py"
    file.write_text(PLUGIN)
    return file


def wait_for(talk: Talk, topic: str, *values: bytes) -> None:
    """Wait until these have arrived: the broker moves them after the acknowledgement."""
    deadline = monotonic() + 30
    while talk.values(topic) != list(values):
        assert monotonic() < deadline, talk.values(topic)


def test_its_topics_stay_readable_and_take_nothing_until_it_is_back(lost: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with BrokerThread(data_dir=data, plugins=[lost]) as broker, Talk(broker.bootstrap) as talk:
        assert talk.create("plain") == 0
        for topic, settings in NEEDY.items():
            assert talk.creation(topic, {**settings, "pykbroker.plugin.lost.size": "2"}) == (0, None)
            assert talk.produce(topic, b"before").error_code == 0
            wait_for(talk, topic, b"before")
        wait_for(talk, "plain", b"before")

    with BrokerThread(data_dir=data) as broker, Talk(broker.bootstrap) as talk:
        for topic, settings in NEEDY.items():
            answer = talk.produce(topic, b"meanwhile")
            assert answer.error_code == ErrorCode.POLICY_VIOLATION, topic
            assert "'lost'" in (answer.error_message or ""), topic
            assert talk.values(topic) == [b"before"], topic
            assert talk.alter(topic, retention_ms="86400000").error_code == 0, topic
            assert talk.create(f"{topic}-2", settings) == ErrorCode.INVALID_CONFIG
        assert talk.produce("plain", b"unconcerned").error_code == 0

    with BrokerThread(data_dir=data, plugins=[lost]) as broker, Talk(broker.bootstrap) as talk:
        for topic in NEEDY:
            assert talk.produce(topic, b"after").error_code == 0
            wait_for(talk, topic, b"before", b"after")
        wait_for(talk, "plain", b"before", b"unconcerned", b"after")
