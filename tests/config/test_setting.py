"""Reading and showing values, whatever somebody writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.config import BrokerConfig, ConfigError, GroupConfig, Setting, TopicConfig, settings_of

ROWS = [row for cls in (BrokerConfig, TopicConfig, GroupConfig) for row in settings_of(cls).values()]
TEXTS = st.text() | st.integers().map(str) | st.floats().map(str) | st.sampled_from(["true", "FALSE", "a,b"])


@given(st.sampled_from(ROWS), TEXTS)
def test_any_text_is_a_value_that_comes_back_or_an_error_that_explains(row: Setting, text: str) -> None:
    error: ConfigError | None = None
    try:
        value = row.parse(text)
    except ConfigError as refused:
        error = refused
    if error is None:
        shown = row.render(value)
        assert shown is not None
        assert row.parse(shown) == value
    else:
        assert row.name in str(error)
        assert row.allowed in str(error)


@pytest.mark.parametrize("text", ["1_000", "0x10", "٣", "1e3", "", "9" * 5000, "1.0"])
def test_what_java_does_not_read_as_a_number_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="an integer from"):
        settings_of(TopicConfig)["retention.ms"].parse(text)


def test_spaces_and_signs_are_read_as_java_does() -> None:
    assert settings_of(TopicConfig)["retention.ms"].parse(" +5 ") == 5
    assert settings_of(TopicConfig)["cleanup.policy"].parse(" compact , delete,") == frozenset(
        {"compact", "delete"}
    )
