"""``pykbroker groups``: consumer groups, their members, and how far behind they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pykbroker.cli import _group_settings
from pykbroker.cli._client import Row, ask, bootstrap_option, format_option, show
from pykbroker.cli._dead_letters import dead_letters, roles
from pykbroker.cli._errors import Failed
from pykbroker.cli._failures import Aside, Failures, aside, failures, with_aside, with_failures
from pykbroker.cli._letter_text import cell

if TYPE_CHECKING:
    from pykbroker.client import Client
    from pykbroker.protocol.messages.describe_groups import DescribedGroup, DescribedGroupMember


@click.group("groups", short_help="List, describe and alter consumer groups.")
def command() -> None:
    """List, describe and alter consumer groups."""


command.add_command(_group_settings.alter)


@command.command("list")
@bootstrap_option
@format_option
def list_(bootstrap: str, form: str) -> None:
    """List the groups of the cluster."""

    async def story(client: Client) -> list[Row]:
        from pykbroker.errors import ErrorCode
        from pykbroker.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse

        answer = await client.send(ListGroupsRequest(), ListGroupsResponse)
        if answer.error_code:
            raise Failed(
                f"the broker cannot list its groups: {ErrorCode(answer.error_code).name}",
                "Where they are still being loaded after a start, ask again in a moment",
            )
        return [
            {"group": each.group_id, "state": each.group_state, "type": each.group_type}
            for each in sorted(answer.groups, key=lambda each: each.group_id)
        ]

    show(ask(bootstrap, story), form)


@command.command()
@click.argument("group")
@click.option("--members", is_flag=True, help="The members instead of the offsets.")
@_group_settings.describe_options
@bootstrap_option
@format_option
def describe(
    group: str,
    members: bool,
    settings: bool,
    topics: tuple[str, ...],
    everything: bool,
    bootstrap: str,
    form: str,
) -> None:
    """Show what GROUP has committed, its lag, and its failures.

    With --settings: which settings it has, and what becomes of records that it cannot process, topic by
    topic, with who says so.
    """
    if _group_settings.describes(group, members, settings, topics, everything, bootstrap, form):
        return

    async def story(
        client: Client,
    ) -> tuple[DescribedGroup, list[Row], list[str], list[str], list[Failures], list[Aside]]:
        found = await _described(client, group)
        offsets = await _offsets(client, group)
        read = {str(row["topic"]) for row in offsets}.union(*map(_assigned, found.members))
        its = {topic: role for topic, role in (await roles(client)).items() if role.group == group}
        own = [topic for topic, role in sorted(its.items()) if topic in read and role.kind == "dlq"]
        retries = [topic for topic, role in sorted(its.items()) if topic not in read and role.kind == "retry"]
        unread = [topic for topic in retries if await _has_records(client, topic)]
        if members:
            return found, _members(found), own, unread, [], []
        failed = await failures(client, group, its)
        return found, offsets, own, unread, failed, await aside(client, group)

    found, rows, own, unread, failed, nacked = ask(bootstrap, story)
    if form == "table":
        count = len(found.members)
        click.echo(f"group {group}: {found.group_state}, {count} member{'' if count == 1 else 's'}\n")
        if not rows:
            click.echo("no members" if members else "nothing committed yet")
        rows = rows if members else [{**row, "metadata": cell(_text(row) or None)} for row in rows]
    show(with_aside(with_failures(rows, failed), nacked) if form == "json" else rows, form)
    if form == "table":
        for each in failed:
            click.echo(f"\n{each}")
    for each_aside in nacked:
        if each_aside.why:
            _warn(*each_aside.warning)
    for topic in own:
        _warn(
            f"{group} reads {topic}, its own dead-letter topic",
            "What fails there is not retried. `pykbroker dlq replay` sends letters back.",
        )
    for topic in unread:
        _warn(
            f"{topic} has records, and {group} has never read it",
            "What failed comes back there: subscribe to it too.",
        )


def _warn(what: str, hint: str) -> None:
    click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {what}", err=True)
    click.echo(f"  {hint}", err=True)


def _text(row: Row) -> str | None:
    """The metadata of a commit; confluent-kafka sends the NUL behind its C string too."""
    found = row.get("metadata")
    return found.rstrip("\0") if isinstance(found, str) else None


async def _has_records(client: Client, topic: str) -> bool:
    return any(each.end > each.start for each in (await dead_letters(client, topic)).partitions)


async def _described(client: Client, group: str) -> DescribedGroup:
    from pykbroker.errors import ErrorCode
    from pykbroker.protocol.messages.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse

    connection = await client.coordinator(group)
    answer = await connection.send(DescribeGroupsRequest(groups=[group]), DescribeGroupsResponse)
    (found,) = answer.groups
    if found.error_code:
        raise Failed(
            f"group {group}: {found.error_message or ErrorCode(found.error_code).name}",
            "`pykbroker groups list` shows the groups there are",
        )
    return found


def _assigned(member: DescribedGroupMember) -> frozenset[str]:
    """The topics that a consumer has partitions of."""
    from pykbroker.groups.subscription import assigned_topics

    return assigned_topics(member.member_assignment) or frozenset()


def _members(found: DescribedGroup) -> list[Row]:
    return [
        {
            "member": each.member_id,
            "instance": each.group_instance_id,
            "client": each.client_id,
            "host": each.client_host,
        }
        for each in found.members
    ]


async def _offsets(client: Client, group: str) -> list[Row]:
    from pykbroker.client.client import LATEST
    from pykbroker.protocol.messages.offset_fetch import (
        OffsetFetchRequest,
        OffsetFetchRequestGroup,
        OffsetFetchResponse,
    )

    # Version 8: the last one that names topics and that every broker since 3.0 serves.
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=None)])
    connection = await client.coordinator(group)
    answer = await connection.send(request, OffsetFetchResponse, version=8)
    rows: list[Row] = []
    for topic in sorted(answer.groups[0].topics, key=lambda each: each.name):
        for partition in sorted(topic.partitions, key=lambda each: each.partition_index):
            end = await client.offset(topic.name, partition.partition_index, LATEST)
            rows.append(
                {
                    "topic": topic.name,
                    "partition": partition.partition_index,
                    "committed": partition.committed_offset,
                    "end": end,
                    "lag": max(0, end - partition.committed_offset),
                    "metadata": partition.metadata or None,
                }
            )
    return rows
