"""Few open files are allowed, and clients come that would take them all."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from kafka import KafkaProducer

from pykbroker.testing import BrokerProcess

OPEN_FILES = 256


@pytest.fixture
def poor_python(tmp_path: Path) -> str:
    """An interpreter that may open few files, whatever it asks for."""
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nulimit -n {OPEN_FILES}\nexec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_idle_connections_cannot_take_the_files_that_records_need(poor_python: str) -> None:
    """More are closed at once; topics can be made and written to, and the broker lives."""
    with BrokerProcess(python=poor_python, settings={"log.cleaner.backoff.ms": 100}) as broker:
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
        assert producer.send("before", b"1").get(timeout=10).offset == 0
        host, port = broker.bootstrap.split(":")
        with ExitStack() as hoarded:
            for _ in range(OPEN_FILES + 50):
                hoarded.enter_context(socket.create_connection((host, int(port)), timeout=10))
            for number in range(10):
                assert producer.send(f"meanwhile-{number}", b"1").get(timeout=10).offset == 0
        assert producer.send("after", b"1").get(timeout=10).offset == 0
        producer.close()
        assert "refused a connection" in broker.output()
        assert "ERROR" not in broker.output()
        assert broker.stop() == 0
