"""Settings from files, environment and command line."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pykbroker.config import BrokerConfig, ConfigError, Endpoint


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_nothing_given_is_all_defaults() -> None:
    config = BrokerConfig.load()
    assert config == BrokerConfig()
    assert config.listen_endpoints() == (Endpoint("PLAINTEXT", "localhost", 9092),)


def test_set_wins_over_environment_over_file(tmp_path: Path) -> None:
    file = write(
        tmp_path / "broker.toml", "num.partitions = 2\n[group]\nmax.size = 5\nmin.session.timeout.ms = 7\n"
    )
    env = {"PYKBROKER_NUM_PARTITIONS": "3", "PYKBROKER_GROUP_MAX_SIZE": "6", "HOME": "/"}
    config = BrokerConfig.load(file, env, ["num.partitions=4"])
    assert (config.num_partitions, config.group_max_size, config.group_min_session_timeout_ms) == (4, 6, 7)
    assert dict(config.static) == {
        "num.partitions": "4",
        "group.max.size": "6",
        "group.min.session.timeout.ms": "7",
    }


def test_toml_lists_and_booleans(tmp_path: Path) -> None:
    file = write(
        tmp_path / "x.toml",
        'listeners = ["PLAINTEXT://:1", "INTERNAL://h:2"]\nauto.create.topics.enable = false\n'
        "[log]\ncleaner.min.cleanable.ratio = 0.25\n",
    )
    config = BrokerConfig.load(file)
    assert config.listen_endpoints() == (Endpoint("PLAINTEXT", "", 1), Endpoint("INTERNAL", "h", 2))
    assert config.auto_create_topics_enable is False
    assert config.log_cleaner_min_cleanable_ratio == 0.25


def test_properties_as_kafka_reads_them(tmp_path: Path) -> None:
    file = write(
        tmp_path / "server.properties",
        "# comment\n! another\n\nbroker.id = 7\nlog.dir:/data\\:x\nnum.partitions 3\n"
        "log.retention.\\\n   hours=1\nmessage.max.bytes=\\u0035\n",
    )
    config = BrokerConfig.load(file)
    assert (config.node_id, config.log_dirs, config.num_partitions) == (7, "/data:x", 3)
    assert (config.log_retention_hours, config.message_max_bytes) == (1, 5)


def test_a_kraft_server_properties_starts_and_is_told_what_has_no_effect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(
        tmp_path / "server.properties",
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@localhost:9093\n"
        "listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n"
        "advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n"
        "controller.listener.names=CONTROLLER\nnum.network.threads=3\nlog.dirs=/tmp/kraft\n"
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL\n",
    )
    with caplog.at_level(logging.WARNING):
        config = BrokerConfig.load(file)
    assert [endpoint.name for endpoint in config.listen_endpoints()] == ["PLAINTEXT"]
    assert config.advertised_endpoints() == (Endpoint("PLAINTEXT", "localhost", 9092),)
    (line,) = caplog.messages
    assert "num.network.threads" in line
    assert "process.roles" in line
    assert "node.id" not in line


def test_a_topic_settings_name_is_its_default_for_all_topics() -> None:
    config = BrokerConfig.load(sets=["flush.messages=1", "retention.ms=5"])
    assert config.log_flush_interval_messages == 1
    assert config.topic_defaults["retention_ms"] == 5


def test_our_own_settings_have_a_variable_too() -> None:
    for variable in ("PYKBROKER_PYKBROKER_LOG_FORMAT", "PYKBROKER_LOG_FORMAT"):
        assert BrokerConfig.load(env={variable: "json"}).pykbroker_log_format == "json"


def test_variables_that_are_no_settings_are_left_alone() -> None:
    assert BrokerConfig.load(env={"PYKBROKER_BOOTSTRAP": "x:1"}) == BrokerConfig()


@pytest.mark.parametrize(
    ("set_", "parts"),
    [
        ("num.partition=3", ["num.partition='3'", "--set", "did you mean num.partitions?"]),
        ("num.partitions=many", ["num.partitions='many'", "--set", "an integer from 1 to 2147483647"]),
        ("num.partitions=0", ["from 1 to"]),
        ("auto.create.topics.enable=yes", ["must be true or false"]),
        ("compression.type=brotli", ["one of: uncompressed, zstd, lz4, snappy, gzip, producer"]),
        ("log.cleanup.policy=delete,shred", ["comma-separated list of: compact, delete"]),
        ("log.cleaner.min.cleanable.ratio=nan", ["a number from 0 to 1"]),
        ("listeners=localhost:9092", ["NAME://HOST:PORT"]),
        ("listeners=PLAINTEXT://h:70000", ["0 to 65535"]),
        ("listeners=SSL://h:1", ["only plaintext"]),
        ("listeners=A://h:1,a://h:2", ["a name of its own"]),
        ("advertised.listeners=OTHER://h:1", ["OTHER://h:1", "must be one of PLAINTEXT"]),
        ("advertised.listeners=PLAINTEXT://0.0.0.0:1", ["cannot connect to all interfaces"]),
        ("log.dirs=/a,/b", ["the path of one directory"]),
        ("group.min.session.timeout.ms=2000000", ["must not be above group.max.session.timeout.ms"]),
        ("nonsense", ["KEY=VALUE"]),
        ("zzz.qqq=1", ["no setting has this name"]),
    ],
)
def test_what_is_refused_says_what_is_allowed(set_: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        BrokerConfig.load(sets=[set_])
    for part in parts:
        assert part in str(caught.value)


def test_errors_name_file_and_line_or_variable(tmp_path: Path) -> None:
    file = write(tmp_path / "server.properties", "node.id=1\nnum.partitons=1\n")
    with pytest.raises(ConfigError, match=r"server\.properties line 2.*did you mean num\.partitions"):
        BrokerConfig.load(file)
    with pytest.raises(ConfigError, match="environment variable PYKBROKER_NUM_PARTITONS"):
        BrokerConfig.load(env={"PYKBROKER_NUM_PARTITONS": "1"})
    with pytest.raises(ConfigError, match=r"not valid TOML"):
        BrokerConfig.load(write(tmp_path / "x.toml", "a b"))
    with pytest.raises(ConfigError, match="must be a string, a number"):
        BrokerConfig.load(write(tmp_path / "y.toml", "num.partitions = 2020-01-01"))
    with pytest.raises(ConfigError, match=r"listener.security.protocol.map says SASL_SSL"):
        BrokerConfig.load(sets=["listeners=EXT://h:1", "listener.security.protocol.map=EXT:SASL_SSL"])
