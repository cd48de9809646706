"""A test run of somebody else's project, where pykbroker is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

import pykbroker

# Where pykbroker is on the path but not installed, its entry point is not found: do what it does.
CONFTEST = """
def pytest_configure(config):
    if not config.pluginmanager.has_plugin("pykbroker"):
        from pykbroker.testing import plugin
        config.pluginmanager.register(plugin, "pykbroker")
"""


# kafka-python 3 reads its schemas in a deprecated way at import.
INI = """
[pytest]
filterwarnings =
    error
    ignore:(read|open)_text is deprecated:DeprecationWarning
"""

TIMEOUT_S = 180.0
"""A program that waits for ever fails."""


def run_strangers_tests(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str
) -> pytest.RunResult:
    """Run a test file in a process of its own, warnings being errors."""
    monkeypatch.setenv("PYTHONPATH", str(Path(pykbroker.__file__).parents[1]))
    pytester.makeini(INI)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(source)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=TIMEOUT_S)
