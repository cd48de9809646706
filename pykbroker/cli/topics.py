"""``pykbroker topics``: list, describe, create, alter and delete topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from pykbroker.cli import _altering, _retries, _settings
from pykbroker.cli._client import Row, ask, bootstrap_option, format_option, show
from pykbroker.cli._letter_text import printable
from pykbroker.cli._waiting import Waiting, fields, waiting_records, why_stuck

if TYPE_CHECKING:
    from pykbroker.client import Client
    from pykbroker.protocol.messages.create_topics import CreatableTopic


DYNAMIC_TOPIC_CONFIG = 1
"""Kafka's number for a setting that a topic has of its own."""


@click.group("topics", short_help="List, describe, create, alter and delete topics.")
def command() -> None:
    """List, describe, create, alter and delete topics."""


@command.command("list")
@bootstrap_option
@format_option
@click.option("--internal", is_flag=True, help="Internal topics too.")
def list_(bootstrap: str, form: str, internal: bool) -> None:
    """List the topics of the cluster."""

    async def story(client: Client) -> list[Row]:
        found = (await client.metadata()).topics
        shown = sorted(each.name or "" for each in found if internal or not each.is_internal)
        counts = {each.name: len(each.partitions) for each in found}
        return [{"topic": name, "partitions": counts[name]} for name in shown]

    show(ask(bootstrap, story), form)


@command.command()
@click.argument("topic")
@click.option("--settings", is_flag=True, help="The settings in force instead of the partitions.")
@click.option("--all", "everything", is_flag=True, help="With --settings: Kafka's with their defaults too.")
@click.option(
    "--group", "groups", metavar="GROUP", multiple=True, help="With --settings: what becomes of its failures."
)
@bootstrap_option
@format_option
def describe(
    topic: str, settings: bool, everything: bool, groups: tuple[str, ...], bootstrap: str, form: str
) -> None:
    """Show each partition of TOPIC: its leader, offsets, what waits.

    What waits to get into it has failed or is delayed, and is not due yet.

    Below are the settings that it has of its own.

    \b
    With --settings, all that are pykbroker's own or not as by default, and who says so:
      topic    the topic itself
      broker   altered while the broker runs, for this one; brokers: for all
      start    given when the broker was started (file, environment or --set)
      default  nobody

    \b
    Which retries has a group there, and why?
      pykbroker topics describe orders --settings --group billing
    """
    if settings:
        _describe_settings(topic, everything, groups, bootstrap, form)
        return
    if everything or groups:
        raise click.UsageError("--all and --group are for --settings")

    async def story(client: Client) -> tuple[list[Row], Waiting | None, dict[str, str]]:
        rows = await _describe(client, topic)
        waiting = (await waiting_records(client, [topic])).get(topic)
        return rows, waiting, await _own_settings(client, topic) if form == "table" else {}

    rows, waiting, own = ask(bootstrap, story)
    if waiting is not None and form == "json":
        rows = [{**row, **fields(waiting.of(int(str(row["partition"]))))} for row in rows]
    show(rows, form)
    if waiting is not None and form == "table":
        click.echo(f"\nwaiting: {waiting}{why_stuck(waiting)}")
    if own:
        click.echo()
    for name, value in own.items():
        click.echo(f"{name} = {printable(value)}")


def _describe_settings(
    topic: str, everything: bool, groups: Sequence[str], bootstrap: str, form: str
) -> None:
    async def story(client: Client) -> tuple[dict[str, _settings.InForce], list[_retries.Failing]]:
        found = await _settings.in_force(client, _settings.TOPIC, [topic])
        return found[topic], await _retries.failing(client, [(topic, group) for group in groups])

    found, failing = ask(bootstrap, story)
    _retries.print_all(found, failing, form, everything=everything)


async def _own_settings(client: Client, topic: str) -> dict[str, str]:
    """What was set for this topic, its role included; a default is not."""
    from pykbroker.client.calls import TOPIC
    from pykbroker.protocol.messages.describe_configs import (
        DescribeConfigsRequest,
        DescribeConfigsResource,
        DescribeConfigsResponse,
    )

    resource = DescribeConfigsResource(resource_type=TOPIC, resource_name=topic, configuration_keys=None)
    answer = await client.send(DescribeConfigsRequest(resources=[resource]), DescribeConfigsResponse)
    return {
        row.name: row.value
        for each in answer.results
        for row in each.configs
        if row.config_source == DYNAMIC_TOPIC_CONFIG and row.value is not None
    }


async def _describe(client: Client, topic: str) -> list[Row]:
    from pykbroker.client.client import EARLIEST, LATEST

    rows: list[Row] = []
    (found,) = (await client.metadata([topic])).topics
    for partition in sorted(found.partitions, key=lambda each: each.partition_index):
        index = partition.partition_index
        rows.append(
            {
                "partition": index,
                "leader": partition.leader_id,
                "replicas": ",".join(map(str, partition.replica_nodes)),
                "start": await client.offset(topic, index, EARLIEST),
                "end": await client.offset(topic, index, LATEST),
            }
        )
    if not rows:
        await client.leader(topic, 0)  # raises why there is none
    return rows


@command.command()
@click.argument("topic")
@click.option("-p", "--partitions", type=click.IntRange(1), help="How many. [num.partitions of the broker]")
@_altering.set_option(
    _settings.TOPIC, "-c", "--set", "--config", help="A setting of the topic; may be repeated."
)
@bootstrap_option
def create(topic: str, partitions: int | None, sets: tuple[str, ...], bootstrap: str) -> None:
    """Create TOPIC.  `pykbroker settings --of topic` lists the settings it may have.

    \b
    Examples:
      pykbroker topics create orders -p 4
      pykbroker topics create orders --set retention.ms=86400000
      pykbroker topics create orders --set pykbroker.retry.policy=exponential
    """
    wanted = _altering.key_values("--set", sets)

    async def story(client: Client) -> None:
        from pykbroker.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse

        await _altering.check_own(client, wanted, "nothing was created")
        request = CreateTopicsRequest(topics=[_new_topic(topic, partitions, wanted)])
        answer = await (await client.controller()).send(request, CreateTopicsResponse)
        _altering.check_results([(each.name, each.error_code, each.error_message) for each in answer.topics])

    ask(bootstrap, story)
    click.echo(f"created {topic}")


def _new_topic(topic: str, partitions: int | None, settings: Mapping[str, str]) -> CreatableTopic:
    from pykbroker.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig

    return CreatableTopic(
        name=topic,
        num_partitions=-1 if partitions is None else partitions,
        replication_factor=-1,
        configs=[CreatableTopicConfig(name=name, value=value) for name, value in settings.items()],
    )


@command.command()
@click.argument("topics", metavar="TOPIC...", nargs=-1, required=True)
@click.option("-p", "--partitions", type=click.IntRange(1), help="How many there shall be: more than now.")
@_altering.alter_options(_settings.TOPIC)
def alter(
    topics: tuple[str, ...],
    partitions: int | None,
    sets: tuple[str, ...],
    unsets: tuple[str, ...],
    dry_run: bool,
    bootstrap: str,
    form: str,
) -> None:
    """Alter settings of topics, or give them more partitions.

    Shown is what held before and what holds now.  If the broker refuses anything, nothing is altered.

    \b
    Retry what a consumer cannot process, after up to 1, 2, 4, 8 minutes, then keep it as a dead letter:
      pykbroker topics alter orders --set pykbroker.retry.policy=exponential \\
          --set pykbroker.retry.delay.ms=60000 --set pykbroker.retry.max.attempts=4

    \b
    For one group only, whatever it reads:
      pykbroker groups alter billing --set pykbroker.retry.policy=linear

    \b
    No retries any more; keep records for a day; eight partitions:
      pykbroker topics alter orders --unset pykbroker.retry.policy
      pykbroker topics alter orders payments --set retention.ms=86400000
      pykbroker topics alter orders --partitions 8

    `pykbroker settings --of topic` lists all settings, `topics describe TOPIC --settings` what holds.
    """
    wanted = _altering.edit(sets, unsets)
    if not wanted.names and partitions is None:
        raise click.UsageError("nothing to alter: give --set KEY=VALUE, --unset KEY or --partitions N")

    async def story(client: Client) -> list[Row]:
        plan = await _altering.plan(client, _settings.TOPIC, topics, wanted)
        rows = [] if partitions is None else await _growth(client, topics, partitions)
        if not dry_run:
            await plan.carry_out(client)
            if partitions is not None:
                await _grow(client, topics, partitions, validate_only=False)
        return [*await plan.rows(client, dry_run=dry_run), *rows]

    _altering.show_changes(ask(bootstrap, story), form, dry_run=dry_run)
    if form == "table" and wanted.begins_retries:
        ask_ = f"pykbroker topics describe {topics[0]} --settings --group GROUP"
        click.echo(f"\nwhere what fails comes back: {ask_}")


async def _growth(client: Client, topics: Sequence[str], partitions: int) -> list[Row]:
    """What more partitions would change; raises :class:`Failed` when they are refused."""
    await _grow(client, topics, partitions, validate_only=True)
    counts = {each.name: len(each.partitions) for each in (await client.metadata(topics)).topics}
    return [
        {
            "topic": topic,
            "setting": "partitions",
            "before": counts.get(topic),
            "after": partitions,
            "source": None,
        }
        for topic in topics
    ]


async def _grow(client: Client, topics: Sequence[str], partitions: int, *, validate_only: bool) -> None:
    from pykbroker.protocol.messages.create_partitions import (
        CreatePartitionsRequest,
        CreatePartitionsResponse,
        CreatePartitionsTopic,
    )

    wanted = [CreatePartitionsTopic(name=topic, count=partitions, assignments=None) for topic in topics]
    request = CreatePartitionsRequest(topics=wanted, timeout_ms=30_000, validate_only=validate_only)
    answer = await (await client.controller()).send(request, CreatePartitionsResponse)
    _altering.check_results([(each.name, each.error_code, each.error_message) for each in answer.results])


@command.command()
@click.argument("topics", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@bootstrap_option
def delete(topics: tuple[str, ...], yes: bool, bootstrap: str) -> None:
    """Delete TOPICS with all their records."""
    if not yes:
        click.confirm(f"Delete {', '.join(topics)} with all records?", abort=True)

    async def story(client: Client) -> None:
        from pykbroker.protocol.messages.delete_topics import (
            DeleteTopicsRequest,
            DeleteTopicsResponse,
            DeleteTopicState,
        )

        request = DeleteTopicsRequest(
            topics=[DeleteTopicState(name=name) for name in topics],
            topic_names=list(topics),
            timeout_ms=30_000,
        )
        answer = await (await client.controller()).send(request, DeleteTopicsResponse)
        _altering.check_results(
            [(each.name, each.error_code, each.error_message) for each in answer.responses]
        )

    ask(bootstrap, story)
    click.echo(f"deleted {', '.join(topics)}")
