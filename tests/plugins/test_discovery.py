"""Where plugins are found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pykbroker.components import PARTITIONER
from pykbroker.config import BrokerConfig
from pykbroker.plugins import Plugins, discovery
from tests.plugins.support import loaded, messages

SOURCE = """
from pykbroker import Component, hookimpl

class Last:
    def choose(self, ctx):
        return ctx.partitions - 1

@hookimpl
def pykbroker_register_partitioners():
    return [Component({name!r}, lambda ctx: Last())]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this test's own, in which it stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, name: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SOURCE.format(name=name))
    return path


def test_a_file(folder: Path) -> None:
    path = write(folder / "last-one.py", "last")
    with loaded(str(path)) as plugins:
        assert "last" in plugins.components(PARTITIONER)
        assert plugins.infos()[-1].origin == str(path)
        assert plugins.infos()[-1].name == "last-one"


def test_a_file_may_declare_dataclasses(folder: Path) -> None:
    path = write(folder / "typed.py", "typed")
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
        "@dataclass\nclass A:\n    x: ClassVar[int] = 1\n" + path.read_text().lstrip()
    )
    with loaded(str(path)) as plugins:
        assert messages(plugins) == []


def test_a_module_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "lib" / "pykbroker_test_module.py", "last")
    monkeypatch.syspath_prepend(folder / "lib")
    with loaded("pykbroker_test_module") as plugins:
        assert plugins.infos()[-1].origin == "module pykbroker_test_module"
    monkeypatch.delitem(sys.modules, "pykbroker_test_module")


def test_a_module_beside_which_one_stands(folder: Path) -> None:
    write(folder / "standing.py", "last")
    with loaded("standing") as plugins:
        assert "last" in plugins.components(PARTITIONER)


def test_a_directory_of_files_and_packages(folder: Path) -> None:
    write(folder / "d" / "b.py", "b")
    write(folder / "d" / "a" / "__init__.py", "a")
    write(folder / "d" / "_not.py", "hidden")
    (folder / "d" / "notes.txt").write_text("no plugin")
    plugins = Plugins.load(BrokerConfig(), directory=folder / "d")
    assert [info.name for info in plugins.infos()][-2:] == ["a", "b"]
    assert "hidden" not in plugins.components(PARTITIONER)
    plugins.close()


@pytest.mark.parametrize("name", ["nowhere.py", "./no/where.py", "pykbroker_no_such_module"])
def test_what_was_named_and_is_not_there(folder: Path, name: str) -> None:
    with pytest.raises(LookupError, match="there is no"):
        Plugins.load(BrokerConfig(), extra=[name])


def test_a_directory_that_is_not_there(folder: Path) -> None:
    with pytest.raises(LookupError, match="there is no directory"):
        Plugins.load(BrokerConfig(), directory=folder / "nowhere")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import pykbroker_no_such_module", "ModuleNotFoundError: No module named"),
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(1)", "SystemExit"),
    ],
)
def test_a_file_that_cannot_be_imported_is_left_out(
    folder: Path, source: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = folder / "broken.py"
    broken.write_text(source)
    good = write(folder / "good.py", "good")
    with loaded(str(broken), str(good)) as plugins:
        assert "good" in plugins.components(PARTITIONER)
        [message] = messages(plugins)
        assert said in message
    [record] = [record for record in caplog.records if "plugin left out" in record.getMessage()]
    assert record.exc_info is not None


def install(folder: Path, distribution: str, points: str, group: str = "pykbroker") -> None:
    """What an installer leaves of a distribution, as far as entry points go."""
    info = folder / f"{distribution}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{points}\n")


def test_installed_distributions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = folder / "site"
    write(site / "pykbroker_test_one.py", "one")
    write(site / "pykbroker_test_two.py", "two")
    install(site, "test_two", "zwei = pykbroker_test_two\nmissing = pykbroker_test_three")
    install(site, "test_one", "eins = pykbroker_test_one")
    install(site, "unconcerned", "eins = pykbroker_test_one", group="console_scripts")
    monkeypatch.syspath_prepend(site)
    with loaded() as plugins:
        found = [(info.name, info.origin, info.version) for info in plugins.infos()]
        assert found[-2:] == [("eins", "test_one 1.2", "1.2"), ("zwei", "test_two 1.2", "1.2")]
        assert [problem.plugin for problem in plugins.problems] == ["missing"]
    for module in ("pykbroker_test_one", "pykbroker_test_two"):
        monkeypatch.delitem(sys.modules, module)


def test_our_own_are_not_found_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = folder / "site"
    site.mkdir()
    install(site, "pykbroker", "validators = pykbroker_validators")
    monkeypatch.syspath_prepend(site)
    assert list(discovery.installed()) == []
