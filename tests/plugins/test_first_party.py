"""pykbroker's own plugins: there, whole, and shipped as they are laid out."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pykbroker.components import EXCHANGE_TYPE, PARTITIONER, RETRY_POLICY
from pykbroker.config import BrokerConfig, ConfigError
from pykbroker.plugins import discovery
from tests.plugins.support import loaded, messages

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["partitioners", "exchanges", "retries", "default", "fanout", "topic"])
def test_some_cannot_be_blocked(name: str) -> None:
    config = BrokerConfig.from_texts({"pykbroker.plugins.block": name})
    with pytest.raises(ConfigError, match="cannot be blocked"), loaded(config=config):
        pass


def test_first_party_plugins_load_without_a_problem() -> None:
    with loaded() as plugins:
        assert messages(plugins) == []
        assert {"default", "round-robin"} <= set(plugins.components(PARTITIONER))
        assert {"fanout", "direct", "topic", "headers"} <= set(plugins.components(EXCHANGE_TYPE))
        assert {"immediate", "fixed", "linear", "exponential"} == set(plugins.components(RETRY_POLICY))


def _project(path: Path) -> dict[str, object]:
    project: dict[str, object] = tomllib.loads(path.read_text())["project"]
    return project


def _entry_points(path: Path) -> dict[str, str]:
    points = _project(path)["entry-points"]
    assert isinstance(points, dict)
    found: dict[str, str] = points["pykbroker"]
    return found


def test_each_plugin_and_the_distribution_declare_the_same() -> None:
    own: dict[str, str] = {}
    for folder in sorted((ROOT / "plugins").glob("pykbroker_*")):
        declared = _entry_points(folder / "pyproject.toml")
        assert [target.partition(":")[0] for target in declared.values()] == [folder.name]
        own |= declared
    assert own == discovery.FIRST_PARTY
    assert own == _entry_points(ROOT / "pyproject.toml")


def test_the_wheel_ships_them() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    modules = [target.partition(":")[0] for target in discovery.FIRST_PARTY.values()]
    packages = [f"plugins/{module}/{module}" for module in modules]
    assert tool["hatch"]["build"]["targets"]["wheel"]["packages"] == ["pykbroker", *packages]
    assert tool["hatch"]["build"]["dev-mode-dirs"] == [".", *(f"plugins/{module}" for module in modules)]
