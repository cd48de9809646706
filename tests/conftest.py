"""What all tests share: how much to try, what to do without a tool, the project's own pytest plugin."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.scale import FULL

pytest_plugins = ["pytester", "tests.sound"]

settings.register_profile(
    "default",
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "full",
    max_examples=1000,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("full" if FULL else "default")


def pytest_configure(config: pytest.Config) -> None:
    """Load the fixtures of pykbroker.testing where pykbroker is not installed but on the path."""
    if not config.pluginmanager.has_plugin("pykbroker"):
        from pykbroker.testing import plugin

        config.pluginmanager.register(plugin, "pykbroker")


def pytest_collection_finish() -> None:
    """No collection looks again at what is there now, which stays to the end: some rooms collect after each
    test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], NoReturn]:
    """Call with what is missing and the command that installs it: skips, but fails where CI is set."""

    def give_up(what: str) -> NoReturn:
        if os.environ.get("CI"):
            pytest.fail(f"{what} (CI is set, so this is a failure)")
        pytest.skip(what)

    return give_up
