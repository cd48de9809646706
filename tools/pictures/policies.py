"""When a record that always fails comes back: asked of the retry policies themselves."""

from __future__ import annotations

import random
from typing import Final

from pykbroker_retries import pykbroker_register_retry_policies

from pykbroker.catalog.retrying import RetrySettings, Role, RoleKind
from pykbroker.components import BuildContext, RetryPolicy, Settings
from pykbroker.config import TopicConfig
from pykbroker.delivery.deciding import Fate, decide
from pykbroker.forwarding.copying import sources
from pykbroker.records.batch import read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import payload_of
from tools.pictures.measuring import width_of
from tools.pictures.svg import Picture

LEFT: Final = 150
RIGHT: Final = 40
WIDTH: Final = 900
TOP: Final = 128
ROW: Final = 62


class _Edge(random.Random):
    """Chance at one of its ends."""

    def __init__(self, *, longest: bool) -> None:
        super().__init__(0)
        self._longest = longest

    def randint(self, a: int, b: int) -> int:
        return b if self._longest else a


def settings_of(policy: str, config: TopicConfig) -> RetrySettings:
    """What holds where ``config`` does."""
    return RetrySettings(
        policy=policy,
        max_attempts=config.pykbroker_retry_max_attempts,
        delay_ms=config.pykbroker_retry_delay_ms,
        max_delay_ms=config.pykbroker_retry_max_delay_ms,
        retry_topic="orders.billing.retry",
        dead_letter_topic="orders.billing.dlq",
        shared_dead_letter=False,
        overrides={},
    )


def returns_ms(policy: RetryPolicy, settings: RetrySettings) -> list[int]:
    """The times, from the first failure on, at which a record that fails at once each time is readable
    again; the failure after the last of them makes it a dead letter."""
    role = Role(RoleKind.RETRY, "orders", "billing")
    batch = encode_batch([RecordData(b"customer-1", b"poison", 0, ())], timestamp_ms=0)
    (record,) = sources(read_header(batch), bytes(payload_of(batch)), keep_provenance=True)
    times, now_ms = [], 0
    while (outcome := decide(role, 0, record, settings, policy.decide, now_ms)).fate is Fate.RETRY:
        now_ms, record = outcome.due_ms, outcome.record
        times.append(now_ms)
    assert outcome.fate is Fate.DEAD_LETTER, f"a record of {settings.policy} ends as {outcome.fate}"
    return times


def timelines(config: TopicConfig) -> dict[str, tuple[list[int], list[int]]]:
    """For each policy that ships, the earliest and the latest times."""
    found = {}
    for component in pykbroker_register_retry_policies():
        settings = settings_of(component.name, config)
        ends = [
            BuildContext(
                component=component.name,
                topic="orders",
                settings=Settings({}),
                time_ms=lambda: 0,
                random=_Edge(longest=longest),
                group="billing",
            )
            for longest in (False, True)
        ]
        earliest, latest = (returns_ms(component.factory(end), settings) for end in ends)
        found[component.name] = (earliest, latest)
    return found


def draw() -> Picture:
    """The picture."""
    config = TopicConfig()
    lines = timelines(config)
    bottom = TOP + ROW * len(lines)
    longest_s = max(latest[-1] for _, latest in lines.values()) / 1000
    picture = Picture(
        WIDTH,
        bottom + 76,
        "When a record that always fails comes back, by retry policy",
        "By default settings, in seconds after the first failure. " + " ".join(_said(lines)),
    )
    picture.text(24, 34, "A poison record: when it comes back", size=18, bold=True)
    picture.text(
        24,
        58,
        f"pykbroker.retry.delay.ms={config.pykbroker_retry_delay_ms}, "
        f"pykbroker.retry.max.attempts={config.pykbroker_retry_max_attempts} (the defaults)",
        tone="quiet",
        mono=True,
        size=12,
    )
    _legend(picture)
    scale = (WIDTH - LEFT - RIGHT - 110) / longest_s
    _axis(picture, longest_s, scale, bottom)
    for index, (name, (earliest, latest)) in enumerate(lines.items()):
        _timeline(picture, name, earliest, latest, TOP + ROW * index + ROW / 2, scale / 1000)
    picture.text(LEFT, bottom + 52, "seconds after the first failure", tone="quiet", size=12)
    return picture


def _said(lines: dict[str, tuple[list[int], list[int]]]) -> list[str]:
    said = []
    for name, (earliest, latest) in lines.items():
        spans = [
            f"{a / 1000:g}" if a == b else f"{a / 1000:g} to {b / 1000:g}"
            for a, b in zip(earliest, latest, strict=True)
        ]
        said.append(f"{name}: {', '.join(spans)}; then it is a dead letter.")
    return said


def _legend(picture: Picture) -> None:
    x, y = 24.0, 92.0
    picture.dot(x + 6, y - 4, 5, "bad-line", hollow=True)
    x = _word(picture, x + 18, y, "fails for the first time")
    picture.dot(x + 6, y - 4, 5, "user-line")
    x = _word(picture, x + 18, y, "readable in the retry topic, fails again")
    picture.bar(x, y - 10, 26, 12, "user-line")
    x = _word(picture, x + 32, y, "the same, at some time in here")
    picture.bar(x, y - 10, 12, 12, "bad-line")
    _word(picture, x + 18, y, "dead letter")


def _word(picture: Picture, x: float, y: float, text: str) -> float:
    picture.text(x, y, text, size=12, tone="quiet")
    return x + width_of(text, 12) + 16


def _axis(picture: Picture, longest_s: float, scale: float, bottom: float) -> None:
    for second in range(0, int(longest_s) + 2, 5):
        x = LEFT + second * scale
        picture.line((x, TOP), (x, bottom + 8), tone="rule", width=1)
        picture.text(x, bottom + 26, f"{second}", anchor="middle", size=12, tone="quiet")


def _timeline(
    picture: Picture, name: str, earliest: list[int], latest: list[int], y: float, scale: float
) -> None:
    end = LEFT + latest[-1] * scale
    picture.text(LEFT - 22, y + 5, name, anchor="end", mono=True)
    picture.line((LEFT, y), (max(end, LEFT + 1), y), width=1.2)
    picture.dot(LEFT, y, 5, "bad-line", hollow=True)
    if latest[-1] == 0:
        picture.bar(LEFT + 12, y - 6, 12, 12, "bad-line")
        picture.text(
            LEFT + 32,
            y + 5,
            f"{len(latest)} times at once, then a dead letter",
            size=12,
            tone="quiet",
            halo=True,
        )
        return
    for number, (a, b) in enumerate(zip(earliest, latest, strict=True), 1):
        left, right = LEFT + a * scale, LEFT + b * scale
        if a == b:
            picture.dot(right, y, 5, "user-line")
        else:
            picture.bar(left, y - 6, right - left, 12, "user-line")
        picture.text((left + right) / 2, y - 12, f"{number}", anchor="middle", size=12, halo=True)
    picture.bar(end + 10, y - 6, 12, 12, "bad-line")
    soonest = f"{earliest[-1] / 1000:g} to " if earliest != latest else ""
    picture.text(end + 30, y + 5, f"{soonest}{latest[-1] / 1000:g} s", size=12, tone="quiet", halo=True)
