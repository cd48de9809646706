"""What a topic may be called."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pykbroker.catalog.image import HIDDEN_PREFIX
from pykbroker.errors import ErrorCode, KafkaError

MAX_LENGTH = 249
"""Kafka's limit: a partition's directory, ``<name>-<index>``, must fit into 255 bytes."""

_LEGAL = re.compile(r"[a-zA-Z0-9._-]+")


def check(name: str) -> None:
    """Raise INVALID_TOPIC_EXCEPTION unless ``name`` is one that a topic may have."""
    if not name:
        reason = "it is empty"
    elif name in (".", ".."):
        reason = "'.' and '..' are not allowed"
    elif len(name) > MAX_LENGTH:
        reason = f"it has {len(name)} characters, allowed: {MAX_LENGTH}"
    elif not _LEGAL.fullmatch(name):
        reason = "allowed: ASCII letters, digits, '.', '_' and '-'"
    else:
        return
    raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic name {name!r} is invalid: {reason}")


def check_not_reserved(name: str) -> None:
    """Raise INVALID_TOPIC_EXCEPTION for names that only the broker itself uses."""
    if name.startswith(HIDDEN_PREFIX):
        raise KafkaError(
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            f"Topic names that start with {HIDDEN_PREFIX} belong to the broker: {name}",
        )


def check_no_collision(name: str, others: Iterable[str]) -> None:
    """Raise INVALID_TOPIC_EXCEPTION if another name differs from ``name`` only in '.' and '_'.

    Kafka refuses such pairs because its metrics cannot tell them apart.
    """
    if "." not in name and "_" not in name:
        return
    unified = name.replace(".", "_")
    for other in others:
        if len(other) == len(name) and other != name and other.replace(".", "_") == unified:
            raise KafkaError(
                ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic {name!r} collides with existing topic: {other}"
            )
