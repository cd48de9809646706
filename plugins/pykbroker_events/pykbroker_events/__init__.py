"""Events of pykbroker, kept: an audit log of topics, groups, connections, and records that went astray.

Nothing is kept until ``pykbroker.plugin.audit.file`` names a file; then each event is a line of JSON in
it.  The hooks only put events into a queue, and the service ``audit`` writes them, so that no disk holds
the broker up.  ``pykbroker audit FILE`` reads the file.

One audit log per process: two brokers in one process (only tests have that) share it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pykbroker import (
    BrokerStarted,
    BrokerStopping,
    Component,
    ConnectionChanged,
    GroupChanged,
    Kind,
    NackSkipped,
    PluginSetting,
    RecordDeadLettered,
    RecordReplayed,
    RecordRetried,
    RecordUnroutable,
    Service,
    TopicChanged,
    hookimpl,
)
from pykbroker_events.audit import Audit, note

if TYPE_CHECKING:
    import click

USUAL = (
    "topic", "group", "connection", "unroutable", "dead-lettered", "replayed", "nack-skipped", "broker",
)  # fmt: skip


@hookimpl
def pykbroker_register_services() -> Iterable[Component[Service]]:
    """The service that writes the audit log."""
    return [
        Component(
            "audit",
            lambda build: Audit(),
            settings=[
                PluginSetting(
                    key="file",
                    kind=Kind.STRING,
                    default="",
                    doc="The file that gets a line of JSON for each event. Empty: no audit log. It is opened "
                    "anew for each few lines, so that it can be rotated by renaming it.",
                ),
                PluginSetting(
                    key="events",
                    kind=Kind.LIST,
                    default=USUAL,
                    doc=f"The events that are kept: {', '.join(USUAL)}; also retried, which may be many.",
                    choices=(*USUAL, "retried"),
                ),
            ],
            doc="Writes events to a file.",
        )
    ]


@hookimpl
def pykbroker_register_commands() -> Iterable[Component[click.Command]]:
    """``pykbroker audit``."""
    from pykbroker_events.command import audit

    return [Component("audit", lambda build: audit, doc="Shows an audit log.")]


@hookimpl
def pykbroker_started(event: BrokerStarted) -> None:
    """Keep that the broker listens, and where."""
    note("broker", change="started", listeners=list(event.listeners), node_id=event.node_id)


@hookimpl
def pykbroker_topic_changed(event: TopicChanged) -> None:
    """Keep what became of a topic."""
    note(
        "topic",
        change=event.change,
        topic=event.topic,
        topic_id=event.topic_id.hex(),
        partitions=event.partitions,
        settings=dict(event.settings),
    )


@hookimpl
def pykbroker_connection_changed(event: ConnectionChanged) -> None:
    """Keep who came and who went."""
    note(
        "connection",
        change=event.change,
        connection_id=event.connection_id,
        client_host=event.client_host,
        client_id=event.client_id,
        requests=event.requests,
        reason=event.reason,
    )


@hookimpl
def pykbroker_group_changed(event: GroupChanged) -> None:
    """Keep the states of a group."""
    note(
        "group",
        group=event.group,
        before=event.before,
        after=event.after,
        generation=event.generation,
        members=event.members,
    )


@hookimpl
def pykbroker_record_unroutable(event: RecordUnroutable) -> None:
    """Keep what went nowhere."""
    note(
        "unroutable",
        exchange=event.exchange,
        partition=event.partition,
        offset=event.offset,
        routing_key=event.routing_key,
    )


@hookimpl
def pykbroker_record_retried(event: RecordRetried) -> None:
    """Keep that a record is going to return."""
    note("retried", **_fields(event), retry_topic=event.retry_topic, due_ms=event.due_ms)


@hookimpl
def pykbroker_record_dead_lettered(event: RecordDeadLettered) -> None:
    """Keep that a record has become a dead letter, or was discarded."""
    note("dead-lettered", **_fields(event), dead_letter_topic=event.dead_letter_topic)


def _fields(event: RecordRetried | RecordDeadLettered) -> dict[str, object]:
    return {
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "group": event.group,
        "attempt": event.attempt,
        "reason": event.reason,
        "policy": event.policy,
        "first_failure_ms": event.first_failure_ms,
    }


@hookimpl
def pykbroker_record_replayed(event: RecordReplayed) -> None:
    """Keep that a dead letter goes back."""
    note(
        "replayed",
        dead_letter_topic=event.dead_letter_topic,
        partition=event.partition,
        offset=event.offset,
        destination=event.destination,
        due_ms=event.due_ms,
    )


@hookimpl
def pykbroker_nack_skipped(event: NackSkipped) -> None:
    """Keep that a nack named what is not there."""
    note(
        "nack-skipped",
        topic=event.topic,
        partition=event.partition,
        group=event.group,
        offsets=[list(each) for each in event.offsets],
    )


@hookimpl
def pykbroker_stopping(event: BrokerStopping) -> None:
    """Keep that the broker was asked to stop."""
    note("broker", change="stopping")
