"""The JSON forms of what is inside catalog objects; the log and the snapshot share them.

Any: JSON has no types; a field of the wrong one is a damaged record and raises where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pykbroker.catalog import bindings
from pykbroker.catalog.exchange import Boundaries, ExchangeVersion
from pykbroker.catalog.image import PartitionState, topic_id_bytes, topic_id_text
from pykbroker.components import Binding


def state_fields(state: PartitionState) -> list[object]:
    """A partition's state as a JSON array."""
    return [
        state.index,
        list(state.replicas),
        list(state.isr),
        state.leader,
        state.leader_epoch,
        state.partition_epoch,
    ]


def state_from(fields: Sequence[Any]) -> PartitionState:
    """The reverse of :func:`state_fields`."""
    index, replicas, isr, leader, leader_epoch, partition_epoch = fields
    return PartitionState(
        index=index,
        replicas=tuple(replicas),
        isr=tuple(isr),
        leader=leader,
        leader_epoch=leader_epoch,
        partition_epoch=partition_epoch,
    )


def binding_fields(found: Sequence[Binding]) -> list[object]:
    """Bindings as a JSON array."""
    return [bindings.fields(binding) for binding in found]


def bindings_from(entries: Sequence[Any]) -> tuple[Binding, ...]:
    """The reverse of :func:`binding_fields`."""
    return tuple(Binding(each["to"], each.get("key", ""), each.get("arguments")) for each in entries)


def exchange_fields(name: str, version: ExchangeVersion) -> dict[str, object]:
    """One version of an exchange as a JSON object; this is what must not be too large."""
    return {
        "name": name,
        "version": version.number,
        "kind": version.kind,
        "bindings": binding_fields(version.bindings),
        "alternate": version.alternate,
        "boundaries": boundary_fields(version.boundaries),
    }


def exchange_version_from(entry: Mapping[str, Any]) -> ExchangeVersion:
    """The reverse of :func:`exchange_fields`."""
    return ExchangeVersion(
        number=entry["version"],
        kind=entry["kind"],
        bindings=bindings_from(entry["bindings"]),
        alternate=entry["alternate"],
        boundaries=boundaries_from(entry["boundaries"]),
    )


def boundary_fields(boundaries: Boundaries) -> dict[str, object]:
    """Offsets by topic id as a JSON object."""
    return {topic_id_text(topic_id): list(offsets) for topic_id, offsets in boundaries.items()}


def boundaries_from(entry: Mapping[str, Any]) -> Boundaries:
    """The reverse of :func:`boundary_fields`."""
    return {topic_id_bytes(text): tuple(offsets) for text, offsets in entry.items()}
