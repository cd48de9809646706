"""Commands that process records: each is started anew for each record, and fails by its exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Final

import click
import trio

if TYPE_CHECKING:
    from pykbroker.records.decode import Record

REASON_CHARS: Final = 500
"""A commit's metadata has room for 4,096 bytes."""
GRACE_S: Final = 5.0
"""What a command has to end in when it is told to."""


async def run(command: str, topic: str, partition: int, record: Record) -> str | None:
    """Run ``command`` by the shell with the record's value as input; returns why it failed, or None.

    That is the last line that it wrote to standard error, if there is one.
    """
    done = await trio.run_process(
        ["/bin/sh", "-c", command],
        stdin=record.value or b"",
        capture_stderr=True,
        check=False,
        env={**os.environ, **_environment(topic, partition, record)},
        start_new_session=True,  # Ctrl-C ends us, and only then the command: it must not look like a failure
        deliver_cancel=_end,
    )
    said = done.stderr.decode("utf-8", "replace")
    if said:
        click.echo(said, nl=False, err=True)
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    how = (
        f"exit status {done.returncode}"
        if done.returncode > 0
        else f"killed by {signal.Signals(-done.returncode).name}"
    )
    return lines[-1][:REASON_CHARS] if lines else how


def nack(offset: int, reason: str) -> str:
    """The metadata of a commit that says that the record at ``offset`` has failed."""
    return json.dumps({"nack": [offset], "reason": reason}, ensure_ascii=False)


def _environment(topic: str, partition: int, record: Record) -> dict[str, str]:
    headers = dict(record.headers)
    attempt = headers.get("pykbroker-attempt") or b"0"
    said = {
        "TOPIC": topic,
        "PARTITION": str(partition),
        "OFFSET": str(record.offset),
        "TIMESTAMP_MS": str(record.timestamp),
        "KEY": (record.key or b"").decode("utf-8", "surrogateescape"),
        "ATTEMPT": attempt.decode("utf-8", "replace"),
    }
    return {f"PYKBROKER_{name}": value.replace("\0", "") for name, value in said.items()}


async def _end(process: subprocess.Popen[bytes] | trio.Process) -> None:
    """End it with what it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        await trio.sleep(GRACE_S)
