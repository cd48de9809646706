"""The pytest plugin, as a stranger's test run sees it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.strangers import run_strangers_tests

ALLOWED = {"pykbroker", "pykbroker._version", "pykbroker.testing", "pykbroker.testing.plugin"}


def test_the_entry_point_loads_nothing_but_itself() -> None:
    script = (
        "import sys, pytest; before = set(sys.modules); import pykbroker.testing.plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert set(loaded.split()) == ALLOWED


def test_the_fixture_and_its_marker(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_strangers_tests(
        pytester,
        monkeypatch,
        """
        import pytest
        from kafka import KafkaConsumer, KafkaProducer

        @pytest.mark.pykbroker(settings={"num.partitions": 3, "auto.create.topics.enable": True})
        def test_story(pykbroker):
            producer = KafkaProducer(bootstrap_servers=pykbroker.bootstrap)
            assert producer.partitions_for("t") == {0, 1, 2}
            producer.close()

        def test_another_has_a_broker_of_its_own(pykbroker):
            consumer = KafkaConsumer(bootstrap_servers=pykbroker.bootstrap)
            assert consumer.topics() == set()
            consumer.close()

        def test_one_for_all(pykbroker_session):
            assert pykbroker_session.bootstrap.startswith("127.0.0.1:")
        """,
    )
    result.assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("settings={'num.partitons': 3}", "*num.partitions*"),
        ("setting={}", "*allowed: settings=*"),
        ("{'num.partitions': 3}", "*allowed: settings=*"),
    ],
)
def test_a_wrong_marker_says_what_is_allowed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, marker: str, said: str
) -> None:
    result = run_strangers_tests(
        pytester,
        monkeypatch,
        f"""
        import pytest

        @pytest.mark.pykbroker({marker})
        def test_story(pykbroker):
            pass
        """,
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([said])
