"""The states of a classic group, what each request gets in each, and what leads out.

A group is durable when it is Stable or Empty: only these are written to the log.  A rebalance in
between is volatile; after a restart the group is what it was before the rebalance, and its members
find out by their next request.

=====================  =======================================================================
Empty                  no members (there may be committed offsets, and pending members that
                       were given an id but have not joined with it).
                       Join starts a rebalance; Sync, Heartbeat, Leave: UNKNOWN_MEMBER_ID;
                       commits without a member are taken.
PreparingRebalance     waiting for members to join.  Joins wait, until all known members are there
                       or the join deadline passes (first rebalance: until the initial delay is
                       over).  Heartbeat and Sync: REBALANCE_IN_PROGRESS; commits of the old
                       generation are taken, so that members can flush before they rejoin.
CompletingRebalance    the new generation is known, its leader assigns.  Syncs wait for the
                       leader's.  Heartbeat: fine; commits: REBALANCE_IN_PROGRESS; a Join that
                       brings nothing new is told the generation again.
Stable                 assigned.  Sync tells the assignment again, Heartbeat and commits are fine;
                       a Join of the leader, or one with changed metadata, starts a rebalance.
Dead                   the group is gone.  Nothing is kept in this state; it is what Describe says
                       of a group that is not there.
=====================  =======================================================================

Source: Apache Kafka's classic group protocol, probed on 4.3.1.
"""

from __future__ import annotations

from enum import Enum


class GroupState(Enum):
    """The value is the name that clients see."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


TRANSITIONS: dict[GroupState, frozenset[GroupState]] = {
    # a first member joins; deleted, or expired
    GroupState.EMPTY: frozenset({GroupState.PREPARING, GroupState.DEAD}),
    # members joined; all members left
    GroupState.PREPARING: frozenset({GroupState.COMPLETING, GroupState.EMPTY, GroupState.DEAD}),
    # the leader's assignment is in the log; a member joins, leaves, fails, or does not sync in time
    GroupState.COMPLETING: frozenset({GroupState.STABLE, GroupState.PREPARING, GroupState.DEAD}),
    # a member joins, leaves or fails, the leader rejoins, a follower's metadata changes
    GroupState.STABLE: frozenset({GroupState.PREPARING, GroupState.DEAD}),
    GroupState.DEAD: frozenset(),
}
"""Where each state may lead."""


class IllegalTransition(AssertionError):
    """We are wrong: a decider asked for a step that the table does not have."""


def check_transition(group_id: str, old: GroupState, new: GroupState) -> None:
    """Raise :class:`IllegalTransition` unless ``old`` may lead to ``new``."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(f"group {group_id!r} cannot go from {old.value} to {new.value}")
