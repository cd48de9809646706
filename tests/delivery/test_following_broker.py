"""Following commits in a whole broker: what it keeps from being deleted, and what it remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pykbroker.delivery.following import Following
from pykbroker.forwarding.plan import Place
from pykbroker.groups.service import OFFSETS_TOPIC
from pykbroker.partitions.partition import Partition
from tests.containment.failures import Failures, failing, wait

RETRY = "orders.billing.retry"
T = TypeVar("T")


def following(failures: Failures) -> Following:
    delivery = failures.broker.broker.services.delivery
    assert delivery is not None
    return delivery.following


def partition(failures: Failures, topic: str = OFFSETS_TOPIC, number: int | None = None) -> Partition:
    """A partition; of the offsets topic that of the group."""
    services = failures.broker.broker.services
    index = services.groups.partition_for("billing") if number is None else number
    return services.partitions.get(topic, index)


def look(failures: Failures, what: Callable[[], T]) -> T:
    return failures.broker.run(what)


def needed(failures: Failures, found: Partition) -> tuple[int, int]:
    """From where on it is needed, and its end."""

    def ask() -> tuple[int, int]:
        assert found.needed_from is not None
        return found.needed_from(), found.log_end_offset

    return look(failures, ask)


def records(found: Partition) -> int:
    """The records that are there: of each key one, where all is compacted."""
    offset, count = found.log_start_offset, 0
    while offset < found.log_end_offset:
        read = found.log.read(offset, 1, found.log_end_offset)
        count += bool(read.size)
        offset = read.next_offset
    return count


def test_commits_are_compacted_with_nacks_or_without() -> None:
    settings = {
        "offsets_topic_segment_bytes": 1024,
        "log_cleaner_backoff_ms": 50,
        "log_cleaner_min_cleanable_ratio": 0,
    }
    with failing(**settings) as failures:
        failures.policy("orders", retry_delay_ms="0")
        failures.put("orders", *(b"%d" % number for number in range(5)))
        for _ in range(3):
            for number in range(40):
                assert failures.commit("billing", "orders", (0, 5, "x" * (number % 7))) == [0]
            assert failures.commit("billing", "orders", (0, 5, '{"nack": [3]}')) == [0]
        failures.eventually(RETRY, 1)
        commits = look(failures, lambda: partition(failures))
        wait(lambda: len({*needed(failures, commits)}) == 1)
        before = needed(failures, commits)[1]
        wait(lambda: look(failures, lambda: records(commits)) < before // 4)
        failures.restart()
        commits = look(failures, lambda: partition(failures))
        wait(lambda: len({*needed(failures, commits)}) == 1)
        assert failures.commit("billing", "orders", (0, 5, '{"nack": [3, 4]}')) == [0]
        assert [each.value for each in failures.eventually(RETRY, 2)] == [b"3", b"4"]
        failures.only(RETRY, 2)


def test_nothing_is_read_twice_where_nobody_has_nacked() -> None:
    with failing() as failures:
        failures.policy("orders")
        failures.put("orders", b"v")
        failures.commit("billing", "orders", (0, 1, "text"))
        failures.restart()
        commits = look(failures, lambda: partition(failures))
        wait(lambda: len({*needed(failures, commits)}) == 1)
        engine = look(failures, lambda: failures.broker.broker.services.forwarding)
        assert engine is not None
        assert look(failures, lambda: engine.engine.runner(Place(commits.topic_id, commits.index))) is None
        assert following(failures).statistics().nacked == 0


def test_what_is_planned_is_not_deleted() -> None:
    """Records of the origin are kept from retention until they are moved, and no longer."""
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0")
        failures.put("orders", b"0", b"1", b"2")
        failures.commit("billing", "orders", (0, 3, '{"nack": [1]}'))
        failures.eventually(RETRY, 1)
        origin = look(failures, lambda: partition(failures, "orders", 0))
        wait(lambda: needed(failures, origin) == (3, 3))
        assert failures.delete_records("orders", 3) == 0
        statistics = look(failures, lambda: following(failures).statistics())
        assert (statistics.nacked, statistics.skipped, statistics.waiting) == (1, 0, 0)
