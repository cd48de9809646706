"""The README does what it says: its programs run, its commands are those of continuous integration."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pykbroker.cli import cli
from pykbroker.testing import BrokerThread
from tests.strangers import run_strangers_tests

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_there_are_two_commands_and_ci_runs_the_second() -> None:
    serve, test = blocks("sh")
    assert serve.strip().endswith("pykbroker serve")
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\n" + test.strip())


def test_the_producer_and_the_group_work_as_pasted(pykbroker: BrokerThread) -> None:
    producer, group, *_ = blocks("python")
    outputs = [run(program, pykbroker.bootstrap, records=10) for program in (producer, group)]
    assert len(re.findall(r"order \d is in partition 0 at offset \d", outputs[0])) == 10
    assert len(re.findall(r"partition 0 offset \d: b'customer-\d' b'order \d'", outputs[1])) == 10


def test_failed_deliveries_work_as_pasted(pykbroker: BrokerThread) -> None:
    (policy,) = re.findall(r"^\$ .venv/bin/pykbroker (.*?[^\\])\n(.*)", blocks("console")[1], re.DOTALL)
    assert typed(policy[0].replace("\\\n", " "), pykbroker.bootstrap) == policy[1]
    printed = run(blocks("python")[2], pykbroker.bootstrap, records=3)
    retried = ["payments.bank.retry: b'5 euros' fails"] * 2
    assert printed.splitlines() == ["payments: b'5 euros' fails", *retried]


def typed(command: str, bootstrap: str) -> str:
    result = CliRunner().invoke(cli, shlex.split(command), env={"PYKBROKER_BOOTSTRAP": bootstrap})
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_the_shell_shows_what_is_shown(pykbroker: BrokerThread) -> None:
    said = re.findall(r"^\$ .venv/bin/pykbroker (.*)\n((?:[^$].*\n)*)", blocks("console")[0], re.MULTILINE)
    assert len(said) == 2
    for command, output in said:
        assert typed(command, pykbroker.bootstrap) == output


def run(program: str, bootstrap: str, records: int = 0) -> str:
    """What it prints, where its consumer leaves off after so many records and not when no more come."""
    assert "localhost:9092" in program
    program = program.replace("localhost:9092", bootstrap).replace("10_000", "50_000")
    loop = "for record in consumer:"
    program = program.replace(loop, f"for _, record in zip(range({records}), consumer):")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_growing_the_topic_as_the_readme_says(pykbroker: BrokerThread) -> None:
    (command,) = re.findall(r"`.venv/bin/pykbroker (topics alter .*?)`", README)
    typed("topics create orders -p 1", pykbroker.bootstrap)
    typed(command, pykbroker.bootstrap)
    assert typed("topics list", pykbroker.bootstrap).split()[-2:] == ["orders", "4"]


def test_the_test_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    run_strangers_tests(pytester, monkeypatch, blocks("python")[3]).assert_outcomes(passed=1)


def documents() -> list[Path]:
    others = sorted([*ROOT.glob("*/README.md"), *ROOT.glob("plugins/*/README.md")])
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")), *others]


def anchors(text: str) -> set[str]:
    """What a link may name after its #: headings, as they are shown on the web."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", document.read_text()):
        if "://" not in target:
            there = document.parent / target if target else document
            assert there.exists(), target
            assert not anchor or anchor in anchors(there.read_text()), f"{target}#{anchor}"


def test_the_readme_leads_to_every_page() -> None:
    """Through the folder of a page where it is one of many."""
    linked = set(re.findall(r"\]\(([^)#]+)\)", README))
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert linked >= pages | {"docs/plugins/README.md", "docs/decisions"}
