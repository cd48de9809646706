"""How dead letters look: a line of a table, one in full, JSON.

What is in a letter came from anybody: nothing of it reaches a terminal as a control character.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime

from pykbroker.cli._letters import KIP_1191, Letter, age_text

FIRST_ROWS = 200
"""Rows that decide how wide the columns of a table are; those that follow are not waited for."""

CELL = 60
"""Characters of a key or a reason that a table shows."""

DUMP = 1024
"""Bytes of a value that is no text that are shown, 16 in a line."""


def printable(text: str) -> str:
    """``text`` with everything escaped that is not for reading."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def as_text(data: bytes | None) -> str | None:
    """``data`` as text, or None when it is none."""
    if data is None:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if all(each.isprintable() or each in "\r\n\t" for each in text) else None


def cell(text: str | None) -> str | None:
    """One line, cut where it is long."""
    if text is None:
        return None
    line = printable(text)
    return line if len(line) <= CELL else f"{line[: CELL - 1]}…"


def bytes_cell(data: bytes | None) -> str | None:
    """A key or a header's value in one line: its text, else its bytes in hex."""
    text = as_text(data)
    return cell(text if text is not None or data is None else f"0x{data.hex()}")


def ago(ms: int, now_ms: int) -> str:
    """How long ago ``ms`` was."""
    return f"{age_text(now_ms - ms)} ago"


def row(letter: Letter, now_ms: int) -> dict[str, object]:
    """A letter as a line of a table."""
    return {
        "letter": letter.name,
        "group": letter.group,
        "attempts": letter.attempts,
        "failed": ago(letter.failed_ms, now_ms),
        "key": bytes_cell(letter.key),
        "reason": cell(letter.reason),
    }


def as_json(letter: Letter, *, whole: bool = True) -> dict[str, object]:
    """A letter as JSON, ``whole`` with value and headers; what is no UTF-8 is under ``key_base64``."""
    said: dict[str, object] = {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp_ms": letter.timestamp,
        "source": letter.source,
        "group": letter.group,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "policy": letter.policy,
        "first_failure_ms": letter.first_failure_ms,
        "last_failure_ms": letter.last_failure_ms,
        **_json_bytes("key", letter.key),
    }
    if whole:
        said |= _json_bytes("value", letter.value)
        said["headers"] = [{"name": name, **_json_bytes("value", value)} for name, value in letter.headers]
    return said


def _json_bytes(name: str, data: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if data is None else data.decode()}
    except UnicodeDecodeError:
        assert data is not None
        return {f"{name}_base64": base64.b64encode(data).decode()}


def in_full(letter: Letter, now_ms: int, *, settled: bool) -> str:
    """Everything about one letter, for reading."""
    times = "once" if letter.attempts == 1 else f"{letter.attempts} times"
    failed = "" if letter.attempts is None else times
    lines = [
        ("failed", failed + (f" in group {letter.group}" if letter.group else "")),
        ("reason", letter.reason),
        ("source", letter.source),
        ("first failure", _moment(letter.first_failure_ms, now_ms)),
        ("last failure", _moment(letter.last_failure_ms, now_ms)),
        ("policy", letter.policy),
        ("produced", _moment(letter.timestamp, now_ms)),
        ("key", bytes_cell(letter.key) if letter.key is not None else "none"),
    ]
    text = [f"letter {letter.name}" + (", replayed or purged already" if settled else ""), ""]
    text += [f"{name:<14}{printable(said)}" for name, said in lines if said]
    own = [(name, value) for name, value in letter.headers if not name.startswith(("pykbroker-", KIP_1191))]
    text += [f"{'header':<14}{printable(name)}: {bytes_cell(value) or ''}" for name, value in own]
    text += ["", *_value(letter.value)]
    if not settled:
        to = "" if letter.origin else " --to TOPIC"
        text += ["", f"replay it: pykbroker dlq replay {letter.name}{to}"]
    return "\n".join(text)


def _moment(ms: int | None, now_ms: int) -> str | None:
    if ms is None:
        return None
    try:
        at = datetime.fromtimestamp(ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(ms)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC ({ago(ms, now_ms)})"


def _value(data: bytes | None) -> list[str]:
    if data is None:
        return ["no value (a tombstone)"]
    text = as_text(data)
    if text is not None:
        return [f"value, {len(data)} bytes:", text.rstrip("\r\n")]
    lines = [data[at : at + 16] for at in range(0, min(len(data), DUMP), 16)]
    dump = [
        f"{number * 16:08x}  {line.hex(' '):<47}  {''.join(chr(b) if 32 <= b < 127 else '.' for b in line)}"
        for number, line in enumerate(lines)
    ]
    more = [f"... {len(data) - DUMP} bytes more: --format json has them all"] if len(data) > DUMP else []
    return [f"value, {len(data)} bytes, no text:", *dump, *more]


async def stream(rows: AsyncIterator[Mapping[str, object]], form: str, echo: Callable[[str], None]) -> int:
    """Print rows as they come, as a table or as a JSON array; returns how many there were."""
    return await (_stream_json if form == "json" else _stream_table)(rows, echo)


async def _stream_json(rows: AsyncIterator[Mapping[str, object]], echo: Callable[[str], None]) -> int:
    count = 0
    async for each in rows:
        echo(("[" if not count else ",") + "\n  " + json.dumps(each))
        count += 1
    echo("\n]\n" if count else "[]\n")
    return count


async def _stream_table(rows: AsyncIterator[Mapping[str, object]], echo: Callable[[str], None]) -> int:
    waiting: list[list[str]] = []
    widths: list[int] | None = None
    count = 0

    def flush() -> list[int]:
        known = widths or [max(map(len, column)) for column in zip(*waiting, strict=True)]
        for line in waiting:
            pairs = zip(line, known, strict=True)
            echo("  ".join(text.ljust(width) for text, width in pairs).rstrip() + "\n")
        waiting.clear()
        return known

    async for each in rows:
        if not count:
            waiting.append([name.upper().replace("_", " ") for name in each])
        waiting.append(["-" if value is None else str(value) for value in each.values()])
        count += 1
        if widths is not None or count == FIRST_ROWS:
            widths = flush()
    if waiting:
        flush()
    return count
