"""Plugins that cannot be loaded: the broker starts without them, and topics that need one say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pykbroker import Component, ErrorCode, RecordError, ValidationContext
from pykbroker.testing import BrokerProcess, BrokerThread
from tests.containment import plugins
from tests.containment.talk import Talk
from tests.rawclient import Closed

Harmed = Callable[..., Talk]
NAMED = {"pykbroker.validators": "harm"}


def refusing(ctx: ValidationContext) -> Sequence[RecordError]:
    """Refuse everything."""
    return [RecordError(0, "refused")]


def letting(ctx: ValidationContext) -> Sequence[RecordError]:
    """Let everything in."""
    return ()


def test_a_module_that_is_missing(harmed: Harmed, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "needy.py"
    file.write_text("import not_there_at_all\n")
    talk = harmed(file)
    (line,) = [r for r in caplog.records if "plugin left out" in r.message]
    assert "plugin=needy" in line.message
    assert str(file) in line.message
    assert "ModuleNotFoundError: No module named 'not_there_at_all'" in line.message
    assert talk.creation("orders", NAMED)[0] == ErrorCode.INVALID_CONFIG


@pytest.mark.parametrize("end", ["raise SystemExit(1)", "def broken(:", "1/0"])
def test_a_module_that_fails(
    harmed: Harmed, tmp_path: Path, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    file = tmp_path / "failing.py"
    file.write_text(end)
    harmed(file)
    assert "plugin left out: plugin=failing" in caplog.text


def test_two_plugins_with_one_name(harmed: Harmed, caplog: pytest.LogCaptureFixture) -> None:
    talk = harmed(plugins.validator(letting), plugins.validator(refusing, "another"))
    assert "plugin left out: plugin=harmful" in caplog.text
    assert "there is a plugin of this name already" in caplog.text
    talk.create("orders", NAMED)
    assert talk.produce("orders", b"v").error_code == 0, "the first one stays"


def test_two_components_with_one_name(harmed: Harmed, caplog: pytest.LogCaptureFixture) -> None:
    talk = harmed(plugins.validator(letting), plugins.validator(refusing, "harm", "other"))
    assert "validator 'harm' is offered by plugin harmful already" in caplog.text
    talk.create("orders", NAMED)
    assert talk.produce("orders", b"v").error_code == 0, "the first one stays"


def test_a_wrong_api(harmed: Harmed, caplog: pytest.LogCaptureFixture) -> None:
    talk = harmed(plugins.validator(letting, api=2))
    assert "validator 'harm' is written for api 2, this version has api 1" in caplog.text
    code, message = talk.creation("orders", NAMED)
    assert code == ErrorCode.INVALID_CONFIG
    assert "no plugin offers 'harm'" in (message or "")


def test_a_registering_hook_that_raises(harmed: Harmed, caplog: pytest.LogCaptureFixture) -> None:
    def register() -> object:
        raise RuntimeError("out of order")

    harmed(plugins.plugin("harmful", pykbroker_register_validators=register))
    assert "plugin=harmful in=pykbroker_register_validators" in caplog.text


@pytest.mark.parametrize("made", [None, object()])
def test_a_factory_that_makes_something_else(
    harmed: Harmed, caplog: pytest.LogCaptureFixture, made: object
) -> None:
    component = Component("harm", lambda build: made)
    talk = harmed(plugins.plugin("harmful", pykbroker_register_validators=lambda: [component]))
    talk.create("orders", NAMED)
    answer = talk.produce("orders", b"v")
    assert answer.error_code == ErrorCode.POLICY_VIOLATION
    assert "which has no check()" in (answer.error_message or "")


@pytest.mark.parametrize("setting", ["pykbroker.validators", "pykbroker.interceptors"])
def test_a_plugin_that_is_gone_at_the_next_start(tmp_path: Path, setting: str) -> None:
    def same(ctx: object) -> None:
        return None

    made = plugins.validator(letting) if setting.endswith("validators") else plugins.interceptor(same)
    with BrokerThread(data_dir=tmp_path, plugins=[made]) as broker, Talk(broker.bootstrap) as talk:
        talk.create("orders", {setting: "harm"})
        assert talk.produce("orders", b"v").error_code == 0
    with BrokerThread(data_dir=tmp_path) as broker, Talk(broker.bootstrap) as talk:
        assert talk.values("orders") == [b"v"], "the topic stays readable"
        answer = talk.produce("orders", b"w")
        assert answer.error_code == ErrorCode.POLICY_VIOLATION
        assert "'harm'" in (answer.error_message or "")
        assert talk.alter("orders", **{setting.replace(".", "_"): None}).error_code == 0
        assert talk.produce("orders", b"w").error_code == 0
        assert talk.values("orders") == [b"v", b"w"]


PLUGIN = """
import itertools, os, signal
from types import SimpleNamespace
from pykbroker import Component, RecordError, hookimpl

numbers = itertools.count(1)

def check(ctx):
    number = next(numbers)
    if number == 25:
        os.kill(os.getpid(), signal.SIGKILL)
    if number % 4 == 0:
        raise RuntimeError("out of order")
    return [RecordError(0, "no")] if number % 4 == 1 else ()

@hookimpl
def pykbroker_register_validators():
    return [Component("moody", lambda build: SimpleNamespace(check=check))]
"""


def test_a_plugin_that_kills_the_process_loses_nothing_acknowledged(tmp_path: Path) -> None:
    file = tmp_path / "moody.py"
    file.write_text(PLUGIN)
    acknowledged: list[bytes] = []
    with BrokerProcess(data_dir=tmp_path / "data", plugins=[str(file)]) as broker:
        with Talk(broker.bootstrap) as talk:
            talk.create("orders", {"pykbroker.validators": "moody"})
            for number in range(24):
                value = str(number).encode()
                if talk.produce("orders", value).error_code == 0:
                    acknowledged.append(value)
            with pytest.raises(Closed):
                talk.produce("orders", b"the last")
        broker.kill()  # it is dead already: this waits until the system knows
        broker.start()
        with Talk(broker.bootstrap) as talk:
            assert talk.values("orders") == acknowledged
            assert len(acknowledged) == 12
