"""Commands that alter settings, and members of groups, where a little less would not do."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from pykbroker.cli import _altering, _exec
from pykbroker.cli._client import ask
from pykbroker.cli._member import Lost, Member
from pykbroker.cli._schedule import delays, span, told
from pykbroker.client import Client
from pykbroker.config import Setting
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import Record, iter_records
from pykbroker.testing import BrokerThread
from tests.cli.test_client_commands import invoke, run

# -- altering


@pytest.mark.parametrize("options", [["--set", "retention.ms=5", "--set", "retention.ms=6"], ["--set", "=5"]])
def test_options_that_cannot_be_meant(options: list[str]) -> None:
    assert invoke("127.0.0.1:1", "topics", "alter", "orders", *options).exit_code == 2


def test_what_would_hold_is_shown_and_does_not_hold(pykbroker: BrokerThread) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "1", "--set", "segment.bytes=5000")
    options = ("--set", "retention.ms=5", "--unset", "segment.bytes", "--dry-run", "--format", "json")
    shown = json.loads(run(pykbroker, "topics", "alter", "orders", *options))
    assert [(row["setting"], row["before"], row["after"]) for row in shown] == [
        ("retention.ms", "604800000", "5"),
        ("segment.bytes", "5000", None),
    ]
    found = json.loads(
        run(pykbroker, "topics", "describe", "orders", "--settings", "--all", "--format", "json")
    )
    held = {each["setting"]: each["value"] for each in found["settings"]}
    assert (held["retention.ms"], held["segment.bytes"]) == ("604800000", "5000")


def test_settings_that_only_the_broker_knows_may_be_unset(
    pykbroker: BrokerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is newer than the command, or has plugins."""
    table = _altering.table

    def older(kind: int) -> Mapping[str, Setting]:
        return {name: row for name, row in table(kind).items() if name != "retention.ms"}

    run(pykbroker, "topics", "create", "orders", "-p", "1", "--set", "retention.ms=5")
    monkeypatch.setattr(_altering, "table", older)
    run(pykbroker, "topics", "alter", "orders", "--unset", "retention.ms")
    assert "retention.ms" not in run(pykbroker, "topics", "describe", "orders", "--settings")
    run(pykbroker, "topics", "alter", "orders", "--unset", "pykbroker.plugin.gone.setting")


# -- members


def test_a_member_that_the_group_has_forgotten_joins_as_a_new_one(pykbroker: BrokerThread) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "1")

    async def story(client: Client) -> None:
        member = Member(client, "billing", ["orders"])
        assert await member.join() == {("orders", 0): -1}
        await member.commit({("orders", 0): (3, "")})
        await member.leave()
        assert not member.stale
        with pytest.raises(Lost):
            await member.commit({("orders", 0): (4, "")})
        assert member.stale
        assert await member.join() == {("orders", 0): 3}
        assert not member.stale
        await member.commit({("orders", 0): (4, "")})
        await member.leave()

    ask(pykbroker.bootstrap, story)


def test_what_a_group_refuses_for_good_is_said_at_once(pykbroker: BrokerThread) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "1")

    async def story(client: Client) -> None:
        member, attempts = Member(client, "", ["orders"]), 0
        join = member._join

        async def counted() -> list[tuple[str, int]]:
            nonlocal attempts
            attempts += 1
            return await join()

        member._join = counted  # type: ignore[method-assign]
        with pytest.raises(KafkaError) as caught:
            await member.join()
        assert (caught.value.code, attempts) == (ErrorCode.INVALID_GROUP_ID, 1)

    ask(pykbroker.bootstrap, story)


def test_a_group_that_has_committed_nothing_begins_where_it_is_told_to(pykbroker: BrokerThread) -> None:
    run(pykbroker, "topics", "create", "orders", "-p", "1")
    for value in "abc":
        run(pykbroker, "produce", "orders", "-v", value)
    assert run(pykbroker, "consume", "orders", "-g", "billing", "--from", "-1") == "c\n"
    assert run(pykbroker, "consume", "orders", "-g", "billing", "--from", "-3") == ""


# -- commands for records


def a_record(value: bytes | None = b"v", key: bytes | None = b"k", *headers: tuple[str, bytes]) -> Record:
    (record,) = iter_records(encode_batch([RecordData(key, value, headers=headers)], timestamp_ms=7))
    return record


def processed(command: str, record: Record | None = None) -> str | None:
    return trio.run(_exec.run, command, "orders", 3, record or a_record())


def test_why_a_command_failed(capfd: pytest.CaptureFixture[str]) -> None:
    assert processed("true; echo no reason >&2") is None
    assert processed("echo first >&2; echo '  last ' >&2; echo >&2; exit 3") == "last"
    assert processed("exit 3") == "exit status 3"
    assert processed("kill -9 $$") == "killed by SIGKILL"
    long = processed("printf '%02000d' 1 >&2; exit 1")
    assert long is not None
    assert len(long) == _exec.REASON_CHARS
    assert len(_exec.nack(1 << 62, "\x01" * _exec.REASON_CHARS).encode()) < 4096


def test_what_a_command_is_told(tmp_path: Path) -> None:
    script = "import os, sys; print(sys.stdin.read(), *(os.environ['PYKBROKER_' + each] for each in"
    script += (
        " ('TOPIC', 'PARTITION', 'OFFSET', 'TIMESTAMP_MS', 'KEY', 'ATTEMPT')), file=open(sys.argv[1], 'w'))"
    )
    command = shlex.join([sys.executable, "-c", script, str(tmp_path / "told")])
    for record, said in (
        (a_record(b"value", b"a\0key"), "value orders 3 0 7 akey 0\n"),
        (a_record(None, None, ("pykbroker-attempt", b"2")), " orders 3 0 7  2\n"),
    ):
        assert processed(command, record) is None
        assert (tmp_path / "told").read_text() == said


def test_a_command_is_ended_with_what_it_has_started(tmp_path: Path) -> None:
    """And is no part of the terminal's foreground, whose interrupts are for us."""
    alive = tmp_path / "alive"
    os.mkfifo(alive)

    async def story() -> None:
        command = f"exec 3>{shlex.quote(str(alive))}; echo $$ >&3; sleep 1000 & wait"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_exec.run, command, "orders", 0, a_record())
            with await trio.to_thread.run_sync(alive.open) as said:
                child = int(await trio.to_thread.run_sync(said.readline))
                assert os.getpgid(child) != os.getpgid(0)
                assert os.getsid(child) != os.getsid(0)
                nursery.cancel_scope.cancel()
                with trio.fail_after(30) as patience:
                    patience.shield = True
                    # It ends when nobody has it open any more.
                    assert await trio.to_thread.run_sync(said.read, abandon_on_cancel=True) == ""

    trio.run(story)


# -- delays in words


def test_delays_are_never_longer_than_the_longest_and_half_is_rounded_up() -> None:
    assert delays("exponential", 3, 3, 100) == [(2, 3), (3, 6), (6, 12)]
    assert delays("linear", 3, 70, 100) == [(70, 70), (100, 100), (100, 100)]
    assert delays("fixed", 2, 500, 100) == [(100, 100)] * 2
    assert len(delays("fixed", 100, 1, 1) or ()) == 8


def test_delays_in_words() -> None:
    assert told([(1000, 1000)], 1) == "1s"
    assert told([(1000, 1000)] * 8, 9) == "1s each time"
    assert told([(1000, 1000), (2000, 2000)], 2) == "1s, 2s"
    assert span(86_400_000 + 1000) == "1d", "nobody wants to know"
    assert span(3_600_000 + 60_000 + 1000) == "1h1m"
