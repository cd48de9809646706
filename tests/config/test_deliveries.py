"""Settings of failed deliveries and delays: where each may be, and what it may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.config import BrokerConfig, ConfigError, TopicConfig, templates
from pykbroker.config.describe import Source, describe_group, describe_topic
from pykbroker.config.extensions import Extensions
from pykbroker.config.group import check_group_overrides
from pykbroker.config.setting import INT_MAX
from pykbroker.config.topic import check_topic_overrides

BROKER = BrokerConfig()
ROLE = {"pykbroker.role": "retry:orders:billing"}


def refused(overrides: dict[str, str], before: dict[str, str] | None = None) -> str:
    """The name of the setting that is refused."""
    with pytest.raises(ConfigError) as caught:
        check_topic_overrides(BROKER, overrides, before)
    return caught.value.name


@pytest.mark.parametrize(
    "template",
    ["retry", "{topic}.retry", "{group}", "", "{topic}.{group}.{x}", "{topic} {group}", "{topic}{group"],
)
def test_a_retry_topic_has_both_names_in_it(template: str) -> None:
    overrides = {"pykbroker.retry.topic": template}
    assert refused(overrides) == "pykbroker.retry.topic"
    with pytest.raises(ConfigError, match=r"contains \{topic\} and \{group\}"):
        check_group_overrides(overrides)
    with pytest.raises(ConfigError, match=r"pykbroker\.retry\.topic"):
        BrokerConfig.from_texts(overrides)


@pytest.mark.parametrize("template", ["dead", "{topic}.dead", "{group}_dead", "x.{group}.{topic}", ""])
def test_a_dead_letter_topic_may_be_any(template: str) -> None:
    overrides = {"pykbroker.dead.letter.topic": template}
    assert check_topic_overrides(BROKER, overrides).pykbroker_dead_letter_topic == template
    assert check_group_overrides(overrides).pykbroker_dead_letter_topic == template
    assert BrokerConfig.from_texts(overrides).pykbroker_dead_letter_topic == template


@pytest.mark.parametrize("template", ["{topic}", "{group}"])
def test_dead_letters_do_not_go_back_to_the_topic_itself(template: str) -> None:
    assert refused({"pykbroker.dead.letter.topic": template}) == "pykbroker.dead.letter.topic"


@given(st.text("ab.", min_size=1, max_size=6), st.text("ab.", min_size=1, max_size=6), st.data())
def test_names_are_found_by_their_template(topic: str, group: str, data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.sampled_from(["a", ".", "{topic}", "{group}"]), max_size=5))
    template = "".join([*parts, "{group}"])
    assert templates.found(template, topic, templates.filled(template, topic, group)) == group
    assert templates.found("x" + template, topic, templates.filled(template, topic, group)) is None
    assert templates.found(template, topic, templates.filled(template, topic, "")) is None


def test_dead_letters_do_not_go_to_the_retry_topic() -> None:
    same = {"pykbroker.retry.topic": "{topic}.{group}", "pykbroker.dead.letter.topic": "{topic}.{group}"}
    assert refused(same) == "pykbroker.dead.letter.topic"
    for check in (check_group_overrides, BrokerConfig.from_texts):
        with pytest.raises(ConfigError, match=r"pykbroker\.dead\.letter\.topic"):
            check(same)


def test_dead_letters_of_an_exchange_are_no_groups() -> None:
    def of_exchange(**own: str) -> str:
        overrides = {"pykbroker.exchange.type": "fanout", **{k.replace("_", "."): v for k, v in own.items()}}
        return TopicConfig.from_overrides(BROKER, overrides).pykbroker_dead_letter_topic

    assert of_exchange() == ""
    assert of_exchange(pykbroker_dead_letter_topic="x.{group}") == ""
    assert of_exchange(pykbroker_dead_letter_topic="x") == "x"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "delete,compact"),
        ("pykbroker.validators", "json"),
        ("pykbroker.interceptors", "x"),
        ("pykbroker.partitioner", "default"),
        ("pykbroker.exchange.type", "fanout"),
        ("pykbroker.delay.enable", "true"),
        ("pykbroker.dead.letter.topic", "x"),
        ("pykbroker.retry.policy", "fixed"),
        ("pykbroker.retry.delay.ms", "1"),
    ],
)
def test_what_a_topic_with_a_role_cannot_have(name: str, text: str) -> None:
    assert refused({**ROLE, name: text}, ROLE) == name


def test_a_role_is_read_only() -> None:
    assert refused(ROLE) == "pykbroker.role"
    assert refused({}, ROLE) == "pykbroker.role"
    assert refused({"pykbroker.role": "dlq:orders:billing"}, ROLE) == "pykbroker.role"
    check_topic_overrides(BROKER, {**ROLE, "max.message.bytes": "5"}, ROLE)


def test_only_dead_letters_may_be_swept() -> None:
    letters = {"pykbroker.role": "dlq:orders:billing"}
    for name in ("retention.ms", "retention.bytes"):
        assert refused({**ROLE, name: "5"}, ROLE) == name
        check_topic_overrides(BROKER, {**ROLE, name: "-1"}, ROLE)
        check_topic_overrides(BROKER, {**letters, name: "5"}, letters)


def test_the_brokers_limits_do_not_hold_for_a_topic_with_a_role() -> None:
    broker = BrokerConfig.from_texts(
        {
            "log.cleanup.policy": "compact",
            "log.retention.ms": "1",
            "log.retention.bytes": "1",
            "message.max.bytes": "1",
            "log.message.timestamp.type": "LogAppendTime",
        }
    )
    config = TopicConfig.from_overrides(broker, ROLE)
    assert (config.deletes, config.compacted) == (True, False)
    assert (config.retention_ms, config.retention_bytes, config.max_message_bytes) == (-1, -1, INT_MAX)
    assert config.message_timestamp_type == "CreateTime"
    assert TopicConfig.from_overrides(broker, {**ROLE, "retention.ms": "5"}).retention_ms == 5
    entries = {entry.name: entry for entry in describe_topic(broker, ROLE)}
    assert (entries["retention.ms"].value, entries["retention.ms"].source) == ("-1", Source.DEFAULT)
    assert (entries["pykbroker.role"].value, entries["pykbroker.role"].read_only) == (
        "retry:orders:billing",
        True,
    )


def test_delays_are_decided_at_creation() -> None:
    delays = {"pykbroker.delay.enable": "true"}
    check_topic_overrides(BROKER, {**delays, "pykbroker.delay.ms": "5"})
    check_topic_overrides(BROKER, {**delays, "pykbroker.delay.ms": "5"}, delays)
    assert refused(delays, {}) == "pykbroker.delay.enable"
    assert refused({}, delays) == "pykbroker.delay.enable"
    assert refused({"pykbroker.delay.ms": "5"}) == "pykbroker.delay.ms"
    assert refused({**delays, "pykbroker.delay.ms": "-1"}) == "pykbroker.delay.ms"
    for name, text in (
        ("pykbroker.partitioner", "default"),
        ("pykbroker.exchange.type", "fanout"),
        ("cleanup.policy", "compact"),
    ):
        assert refused({**delays, name: text}) == name


def test_an_exchange_has_no_policy() -> None:
    exchange = {"pykbroker.exchange.type": "fanout"}
    assert refused({**exchange, "pykbroker.retry.policy": "fixed"}) == "pykbroker.retry.policy"
    check_topic_overrides(BROKER, {**exchange, "pykbroker.retry.policy": "none"})
    check_topic_overrides(BrokerConfig.from_texts({"pykbroker.retry.policy": "fixed"}), exchange)


@pytest.mark.parametrize("name", ["pykbroker.retry.max.attempts", "pykbroker.retry.delay.ms"])
def test_numbers_are_not_negative(name: str) -> None:
    assert refused({name: "-1"}) == name
    check_topic_overrides(BROKER, {name: "0"})


def test_policies_are_known_by_name_in_all_scopes() -> None:
    added = Extensions(names={"pykbroker.retry.policy": frozenset({"fixed", "none"})})
    broker = BROKER.with_extensions(added)
    wrong = {"pykbroker.retry.policy": "nope"}
    with pytest.raises(ConfigError, match="nope"):
        check_topic_overrides(broker, wrong)
    with pytest.raises(ConfigError, match="nope"):
        check_group_overrides(wrong, added)
    with pytest.raises(ConfigError, match="nope"):
        BrokerConfig.from_texts(wrong).with_extensions(added)
    check_topic_overrides(broker, wrong, wrong)  # its plugin is gone: the topic stays alterable
    check_group_overrides(wrong, added, wrong)
    for known in ({"pykbroker.retry.policy": "fixed"}, {"pykbroker.retry.policy": "none"}):
        check_topic_overrides(broker, known)
        check_group_overrides(known, added)


def test_what_a_group_does_not_say_has_no_value() -> None:
    entries = {entry.name: entry for entry in describe_group({"pykbroker.retry.policy": "fixed"})}
    policy, delay = entries["pykbroker.retry.policy"], entries["pykbroker.retry.delay.ms"]
    assert (policy.value, policy.source) == ("fixed", Source.GROUP)
    assert (delay.value, delay.source, delay.synonyms) == (None, Source.DEFAULT, ())
