"""Commands that plugins bring."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from pykbroker.cli import _plugged, cli
from pykbroker.components import Component
from pykbroker.hookspecs import hookimpl
from pykbroker.plugins import Plugins


@pytest.fixture(autouse=True)
def _loaded_anew() -> Iterator[None]:
    _plugged._commands.cache_clear()
    yield
    _plugged._commands.cache_clear()


def test_a_command_of_our_own_plugin(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    file.write_text(json.dumps({"time_ms": 0, "event": "topic", "topic": "orders"}) + "\n")
    result = CliRunner().invoke(cli, ["audit", str(file)])
    assert result.exit_code == 0
    assert "topic=orders" in result.stdout


def test_they_are_listed() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert "audit" in result.stdout


def test_pykbrokers_own_need_no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plugged, "_commands", lambda: pytest.fail("plugins were loaded"))
    assert CliRunner().invoke(cli, ["serve", "--help"]).exit_code == 0


def test_what_is_blocked_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYKBROKER_PYKBROKER_PLUGINS_BLOCK", "events")
    assert CliRunner().invoke(cli, ["audit"]).exit_code == 2


def test_a_command_that_cannot_be_made_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(build: object) -> click.Command:
        raise RuntimeError("no")

    def register() -> list[Component[object]]:
        return [
            Component("broken", broken),
            Component("text", lambda build: "a text"),
            Component("serve", lambda build: click.Command("serve")),
        ]

    plugin = SimpleNamespace(__name__="strange", pykbroker_register_commands=hookimpl(register))
    load = Plugins.load
    monkeypatch.setattr(Plugins, "load", lambda config: load(config, extra=[plugin]))
    with caplog.at_level(logging.WARNING):
        result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    assert "RuntimeError: no" in caplog.text
    assert "command=text is no click.Command" in caplog.text
    assert "pykbroker has one of the name serve" in caplog.text
