"""Log lines: one per event, whatever is in it."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from pykbroker.cli._logging import JsonFormatter, TextFormatter

HOSTILE = "a\n2026-01-01 00:00:00.000 INFO    server: all is well\r\x1b[2J\x00\x85\u2028\u202e\ud800\t\x7fé"


def record(message: str, error: Exception | None = None) -> logging.LogRecord:
    info = None
    if error is not None:
        try:
            raise error
        except type(error):
            info = sys.exc_info()
    return logging.LogRecord("pykbroker.groups", logging.INFO, "f", 1, "group=%s", (message,), info)


def test_text_is_one_printable_line() -> None:
    line = TextFormatter(colour=False).format(record(HOSTILE))
    assert line.isprintable()
    assert line.endswith(
        r"group=a\n2026-01-01 00:00:00.000 INFO    server: all is well"
        r"\r\x1b[2J\x00\x85\u2028\u202e\ud800\t\x7fé"
    )


def test_colours_are_ours() -> None:
    warning = record(HOSTILE)
    warning.levelname = "WARNING"
    assert TextFormatter(colour=True).format(warning).count("\x1b") == 2


@pytest.mark.parametrize("text", ["plain", "two\nlines", "tabs\tand é"])
def test_text_that_prints_is_left_alone(text: str) -> None:
    shown = TextFormatter(colour=False).format(record(text))
    assert ("\\" in shown) is not text.isprintable()


def test_a_traceback_is_indented_and_printable() -> None:
    head, *rest = TextFormatter(colour=False).format(record("x", ValueError(HOSTILE))).split("\n")
    assert head.endswith("group=x")
    assert rest[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") and line.isprintable() for line in rest)


def test_json_is_one_printable_line_and_loses_nothing() -> None:
    line = JsonFormatter().format(record(HOSTILE, ValueError(HOSTILE)))
    assert line.isprintable()
    entry = json.loads(line)
    assert entry["message"] == f"group={HOSTILE}"
    assert HOSTILE in entry["traceback"]
