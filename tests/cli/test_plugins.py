"""``pykbroker plugins``: the list, and packages that work as they are written."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import pykbroker
from pykbroker.cli import cli, plugins
from tests.strangers import CONFTEST

BROKEN = "import pykbroker_no_such_module"
LIMIT = """
from pykbroker import Component, Kind, PluginSetting, hookimpl

class Limit:
    def check(self, ctx):
        return ()

@hookimpl
def pykbroker_register_validators():
    limit = PluginSetting(key="bytes", kind=Kind.INT, default=5, doc="A limit.", scopes=frozenset({"topic"}))
    return [Component("limit", lambda ctx: Limit(), settings=[limit])]
"""


def run(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["plugins", *map(str, arguments)])
    if status == 0:
        assert result.exit_code == 0, result.output
    else:
        assert result.exit_code == status, result.output
    return result


def test_the_list_names_what_each_plugin_offers(tmp_path: Path) -> None:
    (tmp_path / "limit.py").write_text(LIMIT)
    (tmp_path / "broken.py").write_text(BROKEN)
    text = run("--plugins-dir", tmp_path).output
    for line in (
        f"limit  ({tmp_path / 'limit.py'})",
        "    validator: limit",
        "    hooks: pykbroker_register_validators",
        "    pykbroker.plugin.limit.bytes = 5  (int; topic)",
        f"broken left out  ({tmp_path / 'broken.py'})",
    ):
        assert line in text.splitlines()
    assert "No module named 'pykbroker_no_such_module'" in text
    assert "Traceback" not in text


def test_the_list_as_json(tmp_path: Path) -> None:
    (tmp_path / "limit.py").write_text(LIMIT)
    found = json.loads(run("list", "--format", "json", "--plugin", tmp_path / "limit.py").output)
    names = [entry["name"] for entry in found["plugins"]]
    assert {"partitioners", "exchanges"} <= set(names)
    assert found["left_out"] == []
    assert found["plugins"][-1] == {
        "name": "limit",
        "version": "",
        "origin": str(tmp_path / "limit.py"),
        "hooks": ["pykbroker_register_validators"],
        "components": [{"kind": "validator", "name": "limit"}],
        "settings": [
            {
                "name": "pykbroker.plugin.limit.bytes",
                "type": "int",
                "default": "5",
                "scopes": ["topic"],
                "doc": "A limit.",
            }
        ],
    }


def test_blocked_plugins_are_not_in_the_list() -> None:
    text = run("--set", "pykbroker.plugins.block=validators,sticky").output
    assert "require-key" not in text
    assert "sticky" not in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--plugin", "no/such/file.py"], "there is no plugin file no/such/file.py"),
        (["--plugins-dir", "no-such-folder"], "there is no directory no-such-folder"),
        (
            ["--set", "pykbroker.plugin.stucky.batch.bytes=1"],
            "mean pykbroker.plugin.sticky.batch.bytes",
        ),
        (["--set", "pykbroker.plugins.block=exchanges"], "exchanges cannot be blocked"),
    ],
)
def test_what_is_asked_wrongly_is_a_usage_error(options: list[str], said: str) -> None:
    assert said in run(*options, status=2).output


@pytest.mark.parametrize("name", ["By-Region", "7up", "a--b", "x_y", ""])
def test_a_name_that_is_none(name: str) -> None:
    assert "must be small letters" in run("new", name, "--kind", "validator", status=2).output


TAKEN = [("topic", "exchange"), ("sticky", "partitioner"), ("events", "validator"), ("fixed", "retry-policy")]


@pytest.mark.parametrize(("name", "kind"), TAKEN)
def test_a_name_that_is_taken(name: str, kind: str, tmp_path: Path) -> None:
    result = run("new", name, "--kind", kind, "--dir", tmp_path, status=1)
    assert "is taken" in str(result.exception)


def test_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    result = run("new", "mine", "--kind", "validator", "--dir", tmp_path, status=1)
    assert "is there already" in str(result.exception)
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind"), [("my-own", kind) for kind in plugins.KINDS] + [("matcher", "exchange")]
)
def test_a_new_package_passes_its_tests(
    kind: str, name: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("new", name, "--kind", kind, "--dir", pytester.path)
    monkeypatch.chdir(pytester.path / name)
    monkeypatch.setenv("PYTHONPATH", str(Path(pykbroker.__file__).parents[1]))
    Path("conftest.py").write_text(CONFTEST)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--rootdir", ".")
    result.assert_outcomes(passed=3 if kind in ("exchange", "retry-policy") else 2)


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_a_new_package_is_a_package(kind: str, tmp_path: Path) -> None:
    run("new", "my-own", "--kind", kind, "--dir", tmp_path / "deep")
    home = tmp_path / "deep" / "my-own"
    project = tomllib.loads((home / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pykbroker"] == {"my-own": "pykbroker_my_own"}
    assert (home / "pykbroker_my_own" / "__init__.py").exists()
    assert "$" not in "".join(path.read_text() for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--plugin", "no/such/file.py"], "there is no plugin file no/such/file.py"),
        (["--set", "pykbroker.plugin.sticky.batch.bytes=x"], "must be an integer"),
    ],
)
def test_serve_refuses_what_is_asked_wrongly(options: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["serve", "--data-dir", str(tmp_path / "data"), *options])
    assert result.exit_code == 2
    assert said in result.output
    assert not (tmp_path / "data").exists()


def test_serve_loads_what_is_named(tmp_path: Path) -> None:
    (tmp_path / "limit.py").write_text(LIMIT)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "broken.py").write_text(BROKEN)
    options = ["--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"), "--log-level", "debug"]
    options += ["--plugin", str(tmp_path / "limit.py"), "--plugins-dir", str(tmp_path / "d")]
    process = subprocess.Popen(
        [sys.executable, "-m", "pykbroker", "serve", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        deadline = time.monotonic() + 20
        while not (tmp_path / "data" / "pykbroker.json").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.terminate()
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    assert f"plugin loaded: plugin=limit from={tmp_path / 'limit.py'}" in said
    assert f"plugin left out: plugin=broken from={tmp_path / 'd' / 'broken.py'}" in said
