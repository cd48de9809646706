"""The README does what it says: its programs run, its commands are those of continuous integration."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

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
    outputs = [run(program, pykbroker.bootstrap) for program in (producer, group)]
    assert len(re.findall(r"order \d is in partition 0 at offset \d", outputs[0])) == 10
    assert len(re.findall(r"partition 0 offset \d: b'customer-\d' b'order \d'", outputs[1])) == 10


def test_failed_deliveries_work_as_pasted(pykbroker: BrokerThread) -> None:
    printed = run(blocks("python")[2], pykbroker.bootstrap)
    retried = ["payments.bank.retry: b'5 euros' fails"] * 2
    assert printed.splitlines() == ["payments: b'5 euros' fails", *retried]


def run(program: str, bootstrap: str) -> str:
    assert "localhost:9092" in program
    program = program.replace("localhost:9092", bootstrap).replace("10_000", "3_000")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_growing_the_topic_as_the_readme_says(pykbroker: BrokerThread) -> None:
    (call,) = re.findall(r"`KafkaAdminClient\(\)\.(create_partitions\(.*?\))`", README)
    from kafka import KafkaAdminClient

    with closing(KafkaAdminClient(bootstrap_servers=pykbroker.bootstrap)) as admin:
        admin.create_topics(["orders"])
        eval(f"admin.{call}", {"admin": admin})
        (topic,) = admin.describe_topics(["orders"])
    assert len(topic["partitions"]) == 4


def test_the_test_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    run_strangers_tests(pytester, monkeypatch, blocks("python")[3]).assert_outcomes(passed=1)


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target
