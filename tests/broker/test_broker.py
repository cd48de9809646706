"""The broker's life: identity, election, start and stop."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
from pathlib import Path

import pytest
import trio

from pykbroker.broker import Broker, StartError, cause_of, raise_descriptor_limit
from pykbroker.catalog.alter import Alteration, Step, alter
from pykbroker.catalog.image import BROKER
from pykbroker.config import BrokerConfig
from pykbroker.log import checkpoints
from pykbroker.protocol.frames import encode_request
from pykbroker.protocol.messages.api_versions import ApiVersionsRequest
from pykbroker.testing import BrokerThread


def config(data_dir: Path, *sets: str) -> BrokerConfig:
    return BrokerConfig.load(sets=[f"log.dirs={data_dir}", "listeners=PLAINTEXT://127.0.0.1:0", *sets])


async def test_cancelling_is_the_stop(tmp_path: Path) -> None:
    broker = Broker(config(tmp_path))
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(broker.run)
        assert broker.bootstrap == listener
        stream = await trio.open_tcp_stream("127.0.0.1", int(listener.rpartition(":")[2]))
        published = json.loads((tmp_path / "pykbroker.json").read_text())
        assert (published["pid"], published["listeners"]) == (os.getpid(), [listener])
        nursery.cancel_scope.cancel()
    assert (tmp_path / checkpoints.CLEAN_SHUTDOWN).exists()
    assert not (tmp_path / "pykbroker.json").exists()
    await stream.aclose()


async def test_the_identity_is_written_once(tmp_path: Path) -> None:
    identities = []
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(Broker(config(tmp_path)).run)
            identities.append(checkpoints.read_meta_properties(tmp_path))
            nursery.cancel_scope.cancel()
    assert identities[0] == identities[1]
    assert identities[0]["version"] == "1"
    assert identities[0]["node.id"] == "1"
    assert len(identities[0]["cluster.id"]) == 22


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("version=1\nnode.id=7\ncluster.id=x\n", "belongs to node 7"),
        ("version=1\nnode.id=1\n", "no cluster.id"),
        ("garbage", "cannot be read"),
    ],
)
async def test_another_identity_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / checkpoints.META_PROPERTIES).write_text(content)
    with pytest.raises(StartError, match=said) as refused:
        await Broker(config(tmp_path)).run()
    assert refused.value.hint
    assert not (tmp_path / "pykbroker.json").exists()


async def test_a_taken_port_is_said_before_logs_are_opened(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(Broker(config(tmp_path / "one")).run)
        other = Broker(config(tmp_path / "two", f"listeners=PLAINTEXT://{listener}"))
        with pytest.raises(StartError, match=f"cannot listen on {listener}"):
            await other.run()
        nursery.cancel_scope.cancel()
    assert not (tmp_path / "two" / checkpoints.META_PROPERTIES).exists()


async def test_a_disk_that_fails_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints, "write_meta_properties", fail)
    with pytest.raises(StartError, match="No space left"):
        await Broker(config(tmp_path)).run()


def test_leader_epochs_rise_after_an_unclean_stop_only(tmp_path: Path) -> None:
    def epoch(broker: BrokerThread) -> int:
        state = broker.run(lambda: broker.broker.services.catalog.image.partition("t", 0))
        assert state is not None
        return state.leader_epoch

    with BrokerThread(data_dir=tmp_path) as broker:
        broker.run_async(lambda: broker.broker.services.topics.auto_create("t"))
        assert epoch(broker) == 0
        broker.restart()
        assert epoch(broker) == 0
    (tmp_path / checkpoints.CLEAN_SHUTDOWN).unlink()
    with BrokerThread(data_dir=tmp_path) as broker:
        assert epoch(broker) == 1


def test_connections_are_limited_and_the_limit_may_change(tmp_path: Path) -> None:
    with BrokerThread(data_dir=tmp_path, settings={"max.connections": "1"}) as broker:
        host, _, port = broker.bootstrap.rpartition(":")

        def is_served() -> bool:
            with socket.create_connection((host, int(port)), timeout=5) as sock:
                sock.sendall(encode_request(ApiVersionsRequest(), 0, 1, "test"))
                try:
                    return bool(sock.recv(1))
                except ConnectionResetError:
                    return False

        with socket.create_connection((host, int(port))) as first:
            first.sendall(encode_request(ApiVersionsRequest(), 0, 1, "test"))
            assert first.recv(1)
            assert not is_served()
            wanted = Alteration(resource_type=BROKER, name="", steps=[Step("max.connections", 0, "2")])
            broker.run_async(lambda: alter(broker.broker.services.catalog, [wanted]))
            assert is_served()


def test_the_descriptor_limit_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_descriptor_limit()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard or soft >= before[0]


def test_cause_of_nested_groups() -> None:
    error = ValueError()
    assert cause_of(ExceptionGroup("", [ExceptionGroup("", [error])])) is error
    several = ExceptionGroup("", [error, KeyError()])
    assert cause_of(several) is several
