"""``pykbroker serve`` as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pykbroker.testing import BrokerProcess

COMMAND = [sys.executable, "-m", "pykbroker", "serve"]
PATIENCE_S = 20.0


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYKBROKER_")}
    return {**clean, **more}


def fails(*options: str, status: int, **env: str) -> str:
    """Run it to its end; returns what it said on standard error."""
    done = subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, env=environment(**env), timeout=PATIENCE_S
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    """Until the broker has written ``file``."""
    deadline = time.monotonic() + PATIENCE_S
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def serving(data_dir: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A broker that listens (its pykbroker.json is there)."""
    process = subprocess.Popen(
        [*COMMAND, "--listen", "127.0.0.1:0", "--data-dir", str(data_dir), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    wait_for(data_dir / "pykbroker.json", process)
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path) as process:
        info = json.loads((tmp_path / "pykbroker.json").read_text())
        (listener,) = info["listeners"]
        assert info["pid"] == process.pid
        host, port = listener.split(":")
        with socket.create_connection((host, int(port))):
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()  # it tells files before people: a signal in between ends it too
            process.send_signal(number)
            out, err = process.stdout.read(), process.stderr.read()
        assert process.wait(PATIENCE_S) == 0, err
    assert f"listens on {listener}" in first
    assert "cut off" not in err, "a connection where nothing happens holds nothing up"
    assert str(tmp_path) in out
    assert f'bootstrap_servers="{listener}"' in out
    assert not (tmp_path / "pykbroker.json").exists()
    assert (tmp_path / ".kafka_cleanshutdown").exists()


def test_json_logs(tmp_path: Path) -> None:
    with serving(tmp_path, "--log-format", "json") as process:
        process.terminate()
        out, err = process.communicate(timeout=PATIENCE_S)
    assert out == ""
    entries = [json.loads(line) for line in err.splitlines()]
    assert any(entry["message"].startswith("listening on 127.0.0.1:") for entry in entries)
    assert all(set(entry) >= {"time", "level", "logger", "message"} for entry in entries)


def test_the_ready_file(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with serving(tmp_path / "data", "--ready-file", str(ready)) as process:
        wait_for(ready, process)
        assert json.loads(ready.read_text())["pid"] == process.pid


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("num.partitons=3", ["num.partitons", "'3'", "did you mean num.partitions?"]),
        ("num.partitions=many", ["num.partitions", "'many'", "integer from 1 to"]),
        ("listeners=nowhere", ["listeners", "'nowhere'", "NAME://HOST:PORT"]),
        ("nonsense", ["KEY=VALUE"]),
    ],
)
def test_a_bad_setting_is_refused(tmp_path: Path, setting: str, said: list[str]) -> None:
    error = fails("--data-dir", str(tmp_path / "data"), "--set", setting, status=2)
    assert all(each in error for each in said), error
    assert not (tmp_path / "data").exists()


def test_a_bad_variable_and_a_bad_file_are_named(tmp_path: Path) -> None:
    assert "PYKBROKER_NUM_PARTITIONS" in fails(status=2, PYKBROKER_NUM_PARTITIONS="0")
    file = tmp_path / "settings.toml"
    file.write_text("[num]\npartitions = 0\n")
    assert str(file) in fails("--config", str(file), status=2)
    assert "missing.toml" in fails("--config", str(tmp_path / "missing.toml"), status=2)


@pytest.mark.parametrize("option", ["--listen", "--advertise"])
@pytest.mark.parametrize("value", ["nowhere", "host:", "host:99999", "host:port"])
def test_a_bad_address_is_refused(option: str, value: str) -> None:
    error = fails(option, value, status=2)
    assert value in error
    assert "HOST:PORT" in error


def test_the_second_on_a_data_directory_is_refused(tmp_path: Path) -> None:
    with BrokerProcess(data_dir=tmp_path) as broker:
        before = sorted(path.name for path in tmp_path.iterdir())
        error = fails("--listen", "127.0.0.1:0", "--data-dir", str(tmp_path), status=1)
        assert f"process id {broker.pid}" in error
        assert broker.bootstrap in error
        assert f"kill {broker.pid}" in error
        assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        error = fails("--listen", address, "--data-dir", str(tmp_path), status=1)
    assert f"cannot listen on {address}" in error
    assert "--listen" in error


def test_settings_come_from_everywhere_and_the_last_wins(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_text("num.partitions=2\nmessage.max.bytes=1000\n")
    settings = tmp_path / "data"
    with serving(settings, "--config", str(file), "--set", "num.partitions=4"):
        pass


def test_all_interfaces_are_advertised_by_name(tmp_path: Path) -> None:
    with serving(tmp_path, "--listen", "0.0.0.0:0"):
        info = json.loads((tmp_path / "pykbroker.json").read_text())
    (advertised,) = info["advertised"]
    assert not advertised.startswith("0.0.0.0")
    assert info["bootstrap"].startswith("localhost:")


def test_advertise(tmp_path: Path) -> None:
    with serving(tmp_path, "--advertise", "broker.example.org:1234"):
        info = json.loads((tmp_path / "pykbroker.json").read_text())
    assert info["advertised"] == ["broker.example.org:1234"]
