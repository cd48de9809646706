"""Naming plugin code that holds the broker up.

Synchronous code cannot be interrupted safely; what can be done is to say whose it is.  A thread looks
at what is being called, logs the plugin with its stack after 100 ms, and again after 1, 10 and 60
seconds.  It sleeps while nothing is called: an idle broker does not pay for it.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from _thread import get_ident
from time import monotonic

log = logging.getLogger(__name__)

THRESHOLDS_S = (0.1, 1.0, 10.0, 60.0)
LOOK_S = 0.05
"""Time between two looks: a call is named at the latest this much after a threshold."""
IDLE_LOOKS = 20
"""Looks that find nothing before the thread goes to sleep."""


Running = tuple[str, float]
"""One call: whose it is, since when (monotonic seconds).  A tuple, for one is made for each record."""


class Watchdog:
    """Who is being called, and the thread that looks at it.  ``enter`` and ``leave`` come in pairs, in
    any thread, and may be nested."""

    def __init__(self) -> None:
        self._running: dict[int, Running] = {}
        """By thread."""
        self._told: dict[int, tuple[Running, int]] = {}
        """By thread: the call that was named last, and how many thresholds it had passed."""
        self._asleep = True
        self._ending = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def enter(self, label: str) -> Running | None:
        """Note that the code named by ``label`` is called now; the result is for :meth:`leave`."""
        ident = get_ident()
        running = self._running
        outer = running.get(ident)
        running[ident] = (label, monotonic())
        if self._asleep:
            self._rouse()
        return outer

    def leave(self, outer: Running | None) -> None:
        """Note that it has returned, in the thread that called :meth:`enter`."""
        if outer is None:
            del self._running[get_ident()]
        else:
            self._running[get_ident()] = outer

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _rouse(self) -> None:
        self._asleep = False
        self._wake.set()
        if self._thread is None and not self._ending.is_set():
            self._thread = threading.Thread(target=self._watch, name="pykbroker-watchdog", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        idle = 0
        while not self._ending.is_set():
            idle = 0 if self._running else idle + 1
            if idle > IDLE_LOOKS:
                self._wake.clear()
                self._asleep = True
                if not self._running and not self._ending.is_set():
                    # Whoever enters from here on finds _asleep set, and wakes this thread.
                    self._wake.wait()
                self._asleep = False
                idle = 0
            if not self._ending.wait(LOOK_S):
                self.look(monotonic())

    def look(self, now: float) -> None:
        """Name what has passed a threshold since the last look."""
        for ident, running in list(self._running.items()):
            label, since = running
            taken = now - since
            passed = sum(taken >= threshold for threshold in THRESHOLDS_S)
            known, told = self._told.get(ident, (None, 0))
            if passed > (told if known is running else 0):
                self._told[ident] = (running, passed)
                frame = sys._current_frames().get(ident)
                stack = "".join(traceback.format_stack(frame)[-8:]) if frame is not None else ""
                if self._running.get(ident) is running:
                    log.warning("a plugin holds up the broker: %s ms=%d\n%s", label, taken * 1000, stack)
        if not self._running:
            self._told.clear()
