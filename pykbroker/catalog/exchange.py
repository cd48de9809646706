"""An exchange as the catalog keeps it: its bindings and alternate, and those that were in force before.

A record is routed after it was acknowledged, by what was in force *when it was appended*.  So a change
does not replace what there was: it begins a new :class:`ExchangeVersion`, which says for each ingress
log from which offset on it holds.  An entry exchange computes the closure over the bindings of all
exchanges that it reaches; hence a version names the ingress logs of every exchange that could reach
this one when it was made.  A log or partition that it does not name came later, or could not get
here: for that one the version has always held.

Old versions go with a later change, once every forwarder has passed the offsets at which they ended.
A deleted exchange stays as a version without a type for as long as records may still need what was
before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pykbroker.components import Binding

Boundaries = Mapping[bytes, tuple[int, ...]]
"""Offsets by partition, by the topic id of the ingress log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeVersion:
    """What an exchange was or is.  ``kind`` is its type, None while there is no such exchange.

    ``bindings`` are in the order in which they were made, each once.  ``alternate`` is the exchange that
    gets what no binding matches.  ``boundaries``: from where on this version holds.
    """

    number: int
    kind: str | None
    bindings: tuple[Binding, ...] = ()
    alternate: str | None = None
    boundaries: Boundaries = field(default_factory=dict)
    targets: frozenset[str] = field(init=False, repr=False, compare=False)
    """All names that this version can send to: of its bindings, and the alternate."""

    def __post_init__(self) -> None:
        names = {binding.to for binding in self.bindings}
        if self.alternate is not None:
            names.add(self.alternate)
        object.__setattr__(self, "targets", frozenset(names))

    def begins(self, topic_id: bytes, partition: int) -> int:
        """The first offset of this ingress partition for which this version holds."""
        offsets = self.boundaries.get(topic_id, ())
        return offsets[partition] if partition < len(offsets) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One exchange: ``versions`` oldest first, the last one is current."""

    name: str
    versions: tuple[ExchangeVersion, ...]

    @property
    def current(self) -> ExchangeVersion:
        """What is in force for what is produced now."""
        return self.versions[-1]

    @property
    def version(self) -> int:
        """The version that a change must name."""
        return self.versions[-1].number

    @property
    def kind(self) -> str | None:
        """The type; None once it is deleted."""
        return self.versions[-1].kind

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """The current bindings."""
        return self.versions[-1].bindings

    @property
    def alternate(self) -> str | None:
        """The current alternate exchange."""
        return self.versions[-1].alternate

    @property
    def history(self) -> tuple[ExchangeVersion, ...]:
        """The versions before the current one that are still kept, oldest first."""
        return self.versions[:-1]

    def at(self, topic_id: bytes, partition: int, offset: int) -> ExchangeVersion:
        """The version in force for one record of an ingress log."""
        for version in reversed(self.versions[1:]):
            if version.begins(topic_id, partition) <= offset:
                return version
        return self.versions[0]

    def bindings_at(self, topic_id: bytes, partition: int, offset: int) -> tuple[Binding, ...]:
        """The bindings in force for one record of an ingress log."""
        return self.at(topic_id, partition, offset).bindings
