"""The page of settings."""

from __future__ import annotations

from pykbroker.config import BrokerConfig, GroupConfig, TopicConfig, settings_of
from pykbroker.config.markdown import render


def test_every_setting_has_a_row() -> None:
    page = render()
    for cls in (BrokerConfig, TopicConfig, GroupConfig):
        for name in settings_of(cls):
            assert f"| `{name}`" in page
    assert "| `group.initial.rebalance.delay.ms` | `0` | `3000` |" in page
