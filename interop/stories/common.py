"""What stories share: topics, records worth sending, and patience."""

from collections.abc import Mapping

from interop.batches import Record, encode_batch
from interop.probing import create_topic, produce, unique, wait_for_coordinator
from interop.raw import Connection

#: Times of records, in milliseconds; long ago, so that no two runs differ.
BASE_TIME = 1_600_000_000_000

CODECS = ("gzip", "snappy", "lz4", "zstd")

#: Key, value, headers: with null, empty, binary and non-ASCII ones.
RECORDS: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = [
    (None, b"no key", []),
    (b"key", b"value", []),
    (b"tombstone", None, []),
    (b"", b"", []),
    (b"headers", b"several", [("a", b"1"), ("b", b""), ("a", b"2"), ("\u00fc", b"\x00\xff")]),
    (bytes(range(256)), bytes(reversed(range(256))), []),
    ("sch\u00f6n".encode(), "gr\u00fc\u00dfe \U0001f600".encode(), [("text", "\u20ac".encode())]),
]


def fresh_topic(bootstrap: str, *, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
    """The name of a new topic that is ready.

    It keeps everything: the stories' records are years old, and retention would take them while they run.
    """
    name = unique("story")
    kept = {"retention.ms": "-1", **(configs or {})}
    with Connection(bootstrap) as connection:
        create_topic(connection, name, partitions=partitions, configs=kept)
    return name


def fresh_group(bootstrap: str) -> str:
    """The id of a group that nobody used, with its coordinator ready."""
    name = unique("story-group")
    with Connection(bootstrap) as connection:
        wait_for_coordinator(connection, name)
    return name


def fill(bootstrap: str, topic: str, *, partitions: int, count: int) -> None:
    """Writes the numbers from 0 to count - 1, as text, to each partition."""
    records = [Record(b"%d" % number, timestamp=BASE_TIME + number) for number in range(count)]
    with Connection(bootstrap) as connection:
        for partition in range(partitions):
            assert produce(connection, topic, encode_batch(records), partition=partition).error_code == 0
