"""Groups as admins see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pykbroker.groups import protocols
from pykbroker.groups.group import Group, Member
from pykbroker.groups.messages import DescribedMember, Description, Listed
from pykbroker.groups.states import GroupState

CLASSIC = "classic"
"""The name of this kind of group on the wire."""


def describe(group: Group | None) -> Description | None:
    """All about one group.  Only while it is stable does it have a protocol and metadata to show."""
    if group is None:
        return None
    protocol = (group.protocol or "") if group.state is GroupState.STABLE else ""
    return Description(
        group_id=group.group_id,
        state=group.state.value,
        protocol_type=group.protocol_type or "",
        protocol=protocol,
        members=tuple(_described(member, protocol) for member in group.members.values()),
    )


def _described(member: Member, protocol: str) -> DescribedMember:
    return DescribedMember(
        member_id=member.member_id,
        instance_id=member.instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        metadata=protocols.metadata(member.protocols, protocol) if protocol else b"",
        assignment=member.assignment,
    )


def listed(groups: Iterable[Group], states: Sequence[str], types: Sequence[str]) -> tuple[Listed, ...]:
    """The groups in one of ``states`` and of one of ``types``; an empty filter lets all through."""
    states = [state.strip().lower() for state in states]
    if types and CLASSIC not in (kind.strip().lower() for kind in types):
        return ()
    return tuple(
        Listed(group.group_id, group.protocol_type or "", group.state.value, CLASSIC)
        for group in groups
        if not states or group.state.value.lower() in states
    )
