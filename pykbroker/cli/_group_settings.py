"""Settings of consumer groups: altered, and in force on the topics that a group reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from pykbroker.cli import _altering, _retries, _settings
from pykbroker.cli._client import Row, ask
from pykbroker.cli._dead_letters import roles

if TYPE_CHECKING:
    from pykbroker.client import Client

Command = TypeVar("Command", bound=Callable[..., None])


@click.command()
@click.argument("groups", metavar="GROUP...", nargs=-1, required=True)
@_altering.alter_options(_settings.GROUP)
def alter(
    groups: tuple[str, ...],
    sets: tuple[str, ...],
    unsets: tuple[str, ...],
    dry_run: bool,
    bootstrap: str,
    form: str,
) -> None:
    """Alter settings of groups.  They win over those of the topics that a group reads.

    A group need not be there yet.  Shown is what held before and what holds now; "topic": whatever
    the topic says.  If the broker refuses anything, nothing is altered.

    \b
    Retry what billing cannot process, 8 times, after 1 to 2 minutes and ever longer:
      pykbroker groups alter billing --set pykbroker.retry.policy=exponential \\
          --set pykbroker.retry.delay.ms=120000 --set pykbroker.retry.max.attempts=8

    \b
    No retries for this group, whatever topics and broker say; then again as they say:
      pykbroker groups alter reports --set pykbroker.retry.policy=none
      pykbroker groups alter reports --unset pykbroker.retry.policy

    `pykbroker settings --of group` lists all settings, `groups describe GROUP --settings` what holds.
    """
    wanted = _altering.edit(sets, unsets)
    if not wanted.names:
        raise click.UsageError("nothing to alter: give --set KEY=VALUE or --unset KEY")

    async def story(client: Client) -> list[Row]:
        plan = await _altering.plan(client, _settings.GROUP, groups, wanted)
        if not dry_run:
            await plan.carry_out(client)
        return await plan.rows(client, dry_run=dry_run)

    _altering.show_changes(ask(bootstrap, story), form, dry_run=dry_run)
    if form == "table" and wanted.begins_retries:
        click.echo(f"\nwhere what fails comes back: pykbroker groups describe {groups[0]} --settings")


def describe_options(command: Command) -> Command:
    """Those of ``groups describe`` that are about settings."""
    for option in (
        click.option("--all", "everything", is_flag=True, help="With --settings: Kafka's too."),
        click.option(
            "--topic",
            "topics",
            metavar="TOPIC",
            multiple=True,
            help="With --settings: a topic, which it need not read yet.  [all that it reads]",
        ),
        click.option("--settings", is_flag=True, help="The settings in force instead of the offsets."),
    ):
        command = option(command)
    return command


def describes(
    group: str,
    members: bool,
    settings: bool,
    topics: Sequence[str],
    everything: bool,
    bootstrap: str,
    form: str,
) -> bool:
    """Whether it was settings that were asked for; they are printed then.  Raises UsageError."""
    if settings and members:
        raise click.UsageError("give either --settings or --members")
    if settings:
        _describe(group, topics, everything, bootstrap, form)
    elif topics or everything:
        raise click.UsageError("--topic and --all are for --settings")
    return settings


def _describe(group: str, topics: Sequence[str], everything: bool, bootstrap: str, form: str) -> None:
    async def story(client: Client) -> tuple[dict[str, _settings.InForce], list[_retries.Failing]]:
        found = (await _settings.in_force(client, _settings.GROUP, [group]))[group]
        read = topics or await _read_by(client, group)
        return found, await _retries.failing(client, [(topic, group) for topic in read])

    found, failing = ask(bootstrap, story)
    _retries.print_all(found, failing, form, everything=everything)


async def _read_by(client: Client, group: str) -> list[str]:
    """What the group has committed for or has members on, and where its failures come from."""
    from pykbroker.groups.subscription import assigned_topics
    from pykbroker.protocol.messages.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse
    from pykbroker.protocol.messages.offset_fetch import (
        OffsetFetchRequest,
        OffsetFetchRequestGroup,
        OffsetFetchResponse,
    )

    connection = await client.coordinator(group)
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=None)])
    committed = await connection.send(request, OffsetFetchResponse, version=8)
    described = await connection.send(DescribeGroupsRequest(groups=[group]), DescribeGroupsResponse)
    found = {topic.name for each in committed.groups for topic in each.topics}
    for member in described.groups[0].members:
        found |= assigned_topics(member.member_assignment) or frozenset()
    have = await roles(client)
    found |= {role.origin for role in have.values() if role.group == group}
    return sorted(found - set(have))
