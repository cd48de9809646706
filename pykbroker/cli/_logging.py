"""What the broker's log looks like: lines for people, or JSON lines for machines, on standard error.

Messages hold names that clients have chosen.  Whatever does not print is escaped, so that nobody can write
a line of their own into the log, or to the terminal that shows it.
"""

from __future__ import annotations

import json
import logging
import sys
import time

LEVELS = ("debug", "info", "warning", "error")

_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}
_PLAIN = "\x1b[0m"


class TextFormatter(logging.Formatter):
    """``12:30:01.123 INFO  partitions.manager: opened 4 partitions``"""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        name = record.name.removeprefix("pykbroker.")
        message = _printable(record.getMessage())
        line = f"{stamp}.{int(record.msecs):03} {record.levelname:<7} {name}: {message}"
        if record.exc_info:
            # Indented: the text of an exception may have lines that look like ours.
            for part in self.formatException(record.exc_info).split("\n"):
                line += "\n  " + _printable(part)
        colour = _COLOURS.get(record.levelname) if self._colour else None
        return f"{colour}{line}{_PLAIN}" if colour else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``time level logger message`` and, after a failure, ``traceback``."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        # JSON leaves alone what many take for the end of a line (U+0085, U+2028), and other controls.
        return _printable(json.dumps(entry, ensure_ascii=False), json_form=True)


def _printable(text: str, *, json_form: bool = False) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char, json_form) for char in text)


def _escaped(char: str, json_form: bool) -> str:
    return json.dumps(char)[1:-1] if json_form else ascii(char)[1:-1]


def set_up(*, level: str, form: str) -> None:
    """Send the records of all loggers, from ``level`` up, to standard error as ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(colour=sys.stderr.isatty()))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # A log must not bring the broker down: no traceback of logging's own when the reader is gone.
    logging.raiseExceptions = False
