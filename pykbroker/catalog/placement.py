"""Which brokers keep the replicas of new partitions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pykbroker.errors import ErrorCode, KafkaError

Replicas = tuple[tuple[int, ...], ...]
"""Per partition: node ids, the first one leads."""


def spread(count: int, replication_factor: int, brokers: Collection[int], first: int = 0) -> Replicas:
    """``count`` partitions on ``brokers``, round robin from partition ``first`` on.

    Raises INVALID_REPLICATION_FACTOR when there are fewer brokers than replicas.
    """
    nodes = sorted(brokers)
    if replication_factor > len(nodes):
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {replication_factor} time(s): the target replication "
            f"factor of {replication_factor} cannot be reached because only {len(nodes)} broker(s) are "
            "registered.",
        )
    return tuple(
        tuple(nodes[(first + index + replica) % len(nodes)] for replica in range(replication_factor))
        for index in range(count)
    )


def check_manual(replicas: Sequence[Sequence[int]], brokers: Collection[int]) -> Replicas:
    """The given replicas, if they can be had; raises INVALID_REPLICA_ASSIGNMENT."""
    for nodes in replicas:
        if not nodes:
            raise _bad("The manual partition assignment includes an empty replica list.")
        if len(set(nodes)) != len(nodes):
            raise _bad(f"The manual partition assignment includes a broker more than once: {list(nodes)}")
        for node in nodes:
            if node not in brokers:
                raise _bad(
                    f"The manual partition assignment includes broker {node}, but no such broker is "
                    "registered."
                )
        if len(nodes) != len(replicas[0]):
            raise _bad(
                f"The manual partition assignment includes a partition with {len(nodes)} replica(s), but "
                f"this is not consistent with previous partitions, which have {len(replicas[0])} replica(s)."
            )
    return tuple(tuple(nodes) for nodes in replicas)


def in_order(assignments: Sequence[tuple[int, Sequence[int]]]) -> list[Sequence[int]]:
    """Assignments given as (partition, node ids) as a list by partition.

    Raises INVALID_REPLICA_ASSIGNMENT unless the partitions are 0, 1, 2 and so on, each once.
    """
    by_index: dict[int, Sequence[int]] = {}
    for index, nodes in assignments:
        if index in by_index:
            raise _bad(f"Found multiple manual partition assignments for partition {index}")
        by_index[index] = nodes
    if sorted(by_index) != list(range(len(by_index))):
        raise _bad("partitions should be a consecutive 0-based integer sequence")
    return [by_index[index] for index in range(len(by_index))]


def _bad(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)
