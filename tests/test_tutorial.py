"""docs/tutorial-plugin.md, followed word by word.

Of the commands only two are not run as they stand, unless ``PYKBROKER_FULL`` is set: making the virtual
environment and installing into it, which needs a network.  Its programs are then this environment's, and
``pip install -e`` leaves what pip would: metadata that names the entry point, and the folder on the path.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.scale import FULL

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial-plugin.md"
PATIENCE_S = 300 if FULL else 60
VENV = "try-plugins"

PYTEST = """
import sys
import pytest

class Entry:
    def pytest_configure(self, config):
        if not config.pluginmanager.has_plugin("pykbroker"):
            from pykbroker.testing import plugin
            config.pluginmanager.register(plugin, "pykbroker")

sys.exit(pytest.main(sys.argv[1:], plugins=[Entry()]))
"""

PIP = """
import sys, tomllib
from pathlib import Path

assert sys.argv[1:3] == ["install", "-e"], sys.argv
home, site = Path(sys.argv[3]).absolute(), Path(sys.argv[0]).parents[1] / "site"
project = tomllib.loads((home / "pyproject.toml").read_text())["project"]
info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
info.mkdir(parents=True)
info.joinpath("METADATA").write_text(
    f"Metadata-Version: 2.1\\nName: {project['name']}\\nVersion: {project['version']}\\n"
)
points = "".join(f"{name} = {value}\\n" for name, value in project["entry-points"]["pykbroker"].items())
info.joinpath("entry_points.txt").write_text(f"[pykbroker]\\n{points}")
for package in home.glob("pykbroker_*"):
    (site / package.name).symlink_to(package)
"""


@dataclass(frozen=True)
class Block:
    """A block of the page, and the file that the sentence before it names, if it names one."""

    language: str
    text: str
    file: str | None


def blocks() -> Iterator[Block]:
    pattern = r"(?:Put this into `([^`]+)`:\n\n)?^```(\w+)\n(.*?)^```$"
    for file, language, text in re.findall(pattern, PAGE.read_text(), re.MULTILINE | re.DOTALL):
        yield Block(language, text, file or None)


class Reader:
    """Somebody who types what the page says, in a folder that holds a clone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.server: subprocess.Popen[str] | None = None
        self.printed = ""
        (folder / "pykbroker").symlink_to(ROOT)

    def follow(self, block: Block) -> None:
        if block.file is not None:
            text = block.text.replace("localhost:9092", f"localhost:{self.port}")
            (self.folder / block.file).write_text(text)
        elif block.language == "text":
            assert self.printed == block.text
        elif f"-m venv {VENV}" in block.text and not FULL:
            self.pretend_to_install()
        elif "pykbroker serve" in block.text:
            self.serve(block.text)
        else:
            assert block.language == "sh", block
            self.type(block.text)

    def type(self, commands: str) -> None:
        done = subprocess.run(
            ["bash", "-ec", commands],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"$ {commands}\n{done.stdout}{done.stderr}"
        self.printed = done.stdout

    def serve(self, commands: str) -> None:
        """The second terminal."""
        self.server = subprocess.Popen(
            ["bash", "-ec", commands.replace("pykbroker serve", "exec pykbroker serve")],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + PATIENCE_S
        while not (self.folder / "pykbroker-data" / "pykbroker.json").exists():
            assert self.server.poll() is None, self.server.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> str:
        """Ctrl-C in the second terminal; returns what the broker said."""
        assert self.server is not None
        self.server.send_signal(signal.SIGINT)
        said = self.server.communicate(timeout=PATIENCE_S)[0]
        assert self.server.returncode == 0, said
        return said

    def close(self) -> None:
        if self.server is not None and self.server.poll() is None:
            self.server.kill()
            self.server.communicate()

    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYKBROKER_")}
        if not FULL:
            clean["PYTHONPATH"] = os.pathsep.join([str(self.folder / VENV / "site"), str(ROOT)])
        return {
            **clean,
            "PATH": os.pathsep.join([str(self.folder / VENV / "bin"), clean["PATH"]]),
            "PYKBROKER_LISTENERS": f"PLAINTEXT://localhost:{self.port}",
            "PYKBROKER_BOOTSTRAP": f"localhost:{self.port}",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def pretend_to_install(self) -> None:
        programs = self.folder / VENV / "bin"
        programs.mkdir(parents=True)
        (programs / "activate").touch()
        (programs / "run_pytest.py").write_text(PYTEST)
        (programs / "run_pip.py").write_text(PIP)
        for name, arguments in {
            "python": '"$@"',
            "pykbroker": '-m pykbroker "$@"',
            "pytest": f'{programs}/run_pytest.py "$@"',
            "pip": f'{programs}/run_pip.py "$@"',
        }.items():
            program = programs / name
            program.write_text(f"#!/bin/sh\nexec {sys.executable} {arguments}\n")
            program.chmod(0o755)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.close()


def test_the_tutorial(reader: Reader) -> None:
    page = list(blocks())
    assert len(page) == PAGE.read_text().count("\n```") / 2, "a block that this test does not see"
    for block in page:
        reader.follow(block)
        if block.text == "pykbroker plugins\n":
            assert "validator: no-cards" in reader.printed
    said = reader.stop()
    assert " ERROR " not in said
    assert "Traceback" not in said
