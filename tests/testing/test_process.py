"""A broker in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.protocol.messages.metadata import MetadataRequest, MetadataResponse
from pykbroker.testing import BrokerProcess
from pykbroker.testing._settings import setting_text
from tests.rawclient import RawClient


def cluster_id(broker: BrokerProcess) -> str | None:
    with RawClient(broker.bootstrap) as client:
        return client.call(MetadataRequest(topics=[]), MetadataResponse, 12).cluster_id


def test_kill_start_and_stop(tmp_path: Path) -> None:
    with BrokerProcess(data_dir=tmp_path, settings={"num.partitions": 2}) as broker:
        before, bootstrap, pid = cluster_id(broker), broker.bootstrap, broker.pid
        broker.kill()
        broker.start()
        assert (cluster_id(broker), broker.bootstrap) == (before, bootstrap)
        assert broker.pid != pid
        assert "the last stop was not clean" in broker.output()
        assert broker.stop() == 0
        assert broker.stop() == 0  # it has ended already


def test_a_start_that_fails_raises_what_was_printed(tmp_path: Path) -> None:
    broker = BrokerProcess(data_dir=tmp_path, settings={"num.partitons": 2})
    with pytest.raises(RuntimeError, match=r"(?s)status 2.*did you mean num\.partitions"):
        broker.start()


def test_it_takes_no_settings_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYKBROKER_NUM_PARTITIONS", "nonsense")
    with BrokerProcess(data_dir=tmp_path):
        pass


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (3, "3"), (["a", "b"], "a,b"), ("x", "x")]
)
def test_settings_as_texts(value: object, text: str) -> None:
    assert setting_text(value) == text
