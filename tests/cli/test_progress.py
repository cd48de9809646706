"""Progress bars: of a long start, of a long count."""

from __future__ import annotations

import io
import sys

import pytest

from pykbroker.cli import _progress
from pykbroker.cli._progress import CountProgress, StartProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error; called in the test itself, because pytest's capture sets it before each phase."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    return made


def test_a_quick_start_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch)
    with StartProgress() as progress:
        progress(1, 10, "opening logs")
        progress(10, 10, "opening logs")
    assert shown.getvalue() == ""


def test_a_long_start_shows_a_bar_and_takes_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch)
    monkeypatch.setattr(_progress, "PATIENCE_S", 0.0)
    with StartProgress() as progress:
        progress(1, 10, "recovering orders-0")
        assert progress._bar is not None
        progress(10, 10, "recovering orders-0")
        assert progress._bar is None
    assert "recovering orders-0" in shown.getvalue()


def test_without_a_terminal_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "PATIENCE_S", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with StartProgress() as progress:
        progress(1, 10, "recovering orders-0")
        assert progress._bar is None


def test_a_count_shows_a_bar_when_it_takes_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch)
    with CountProgress("replaying", 40) as progress:
        progress(10)
        assert shown.getvalue() == ""
        monkeypatch.setattr(_progress, "PATIENCE_S", 0.0)
        progress(20)
    assert "replaying" in shown.getvalue()
    assert "20/40" in shown.getvalue()
