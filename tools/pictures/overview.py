"""What pykbroker is, for the README."""

from __future__ import annotations

from typing import Final

from tools.pictures.svg import Picture

CLIENTS: Final = ("kafka-python", "confluent-kafka", "aiokafka", "any Kafka client")


def draw() -> Picture:
    """The picture."""
    picture = Picture(
        900,
        448,
        "pykbroker: one process between Kafka clients and a directory",
        "kafka-python, confluent-kafka, aiokafka or any Kafka client speak the Kafka protocol to pykbroker, "
        "one process. In it: topics and partitions, consumer groups, exchanges, failed deliveries and "
        "delays, and plugins that may decide in all of them; below, a log on disk in Kafka's own format, "
        "in one data directory. The same broker runs in tests, as the pytest fixture pykbroker.",
    )
    for index, name in enumerate(CLIENTS):
        style = "head" if " " in name else "name"
        picture.label(24 + index * 164, 24, 152, 40, [(name, style)], tone="good", size=12.5)
        picture.line((100 + index * 164, 64), (100 + index * 164, 116), arrow=True)
    picture.label(716, 24, 160, 40, [("your pytest run", "head")], tone="good", size=12.5)
    picture.text(510, 94, "Kafka protocol", size=12, tone="quiet", anchor="middle")
    picture.line((796, 64), (796, 116), arrow=True)
    picture.text(786, 94, "a broker per test", size=12, tone="quiet", anchor="end")
    picture.box(24, 116, 852, 226, tone="hidden", outline="line", frame=True)
    picture.text(40, 142, "pykbroker", bold=True, size=15)
    picture.text(140, 142, "one process, ready in half a second, no JVM", tone="quiet")
    _features(picture)
    picture.line((348, 342), (348, 376), arrow=True)
    picture.label(
        24,
        376,
        852,
        48,
        [("one data directory", "head"), ("log segments in Kafka's own format", "quiet")],
        tone="user",
    )
    return picture


def _features(picture: Picture) -> None:
    cells = (
        ("topics and partitions", "idempotent producers, retention, compaction"),
        ("consumer groups", "rebalances, committed offsets"),
        ("exchanges", "route by key, pattern, header"),
        ("failed deliveries", "retries, delays, dead letters"),
    )
    for index, (head, said) in enumerate(cells):
        x, y = 40 + index % 2 * 314, 158 + index // 2 * 62
        picture.label(x, y, 302, 52, [(head, "head"), (said, "quiet")])
    picture.label(
        40, 282, 616, 46, [("log", "head"), ("nothing acknowledged is lost, not even to kill -9", "quiet")]
    )
    picture.label(
        676,
        158,
        184,
        170,
        [
            ("plugins", "head"),
            ("may decide which partition,", "quiet"),
            ("which targets, what is let", "quiet"),
            ("in, when it is retried;", "quiet"),
            ("hear of what happens", "quiet"),
        ],
        tone="plugin",
    )
