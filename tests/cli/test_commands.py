"""The command line as a whole: help, versions, exit statuses, the table of settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pykbroker import __version__
from pykbroker.cli import COMMANDS, cli
from pykbroker.config import BrokerConfig, GroupConfig, TopicConfig, settings_of

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_help_names_every_command() -> None:
    assert all(command in run("--help") for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    assert "Usage:" in run(command, "--help")


def test_the_version() -> None:
    assert run("--version").split()[-1] == __version__


def test_an_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(cli, ["no-such-command"]).exit_code == 2


def test_the_command_line_imports_neither_trio_nor_rich() -> None:
    script = "import sys, pykbroker.cli; print({'trio', 'rich', 'asyncio'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "set()"


def test_settings_are_found_by_words() -> None:
    assert "num.partitions = 1" in run("settings", "num", "part")
    assert "retention.ms" not in run("settings", "num", "part")


def test_settings_as_json() -> None:
    names = {(entry["of"], entry["name"]) for entry in json.loads(run("settings", "--format", "json"))}
    for kind, cls in (("broker", BrokerConfig), ("topic", TopicConfig), ("group", GroupConfig)):
        assert {(kind, name) for name in settings_of(cls)} <= names


def test_the_page_of_settings_is_up_to_date() -> None:
    """If not: ``pykbroker settings --format markdown >docs/settings.md``."""
    assert (ROOT / "docs" / "settings.md").read_text().rstrip() == run(
        "settings", "--format", "markdown"
    ).rstrip()
