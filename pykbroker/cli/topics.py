"""``pykbroker topics``: list, describe, create and delete topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pykbroker.cli._client import Row, ask, bootstrap_option, format_option, show
from pykbroker.cli._errors import Failed
from pykbroker.cli._letter_text import printable
from pykbroker.cli._waiting import Waiting, fields, waiting_records

if TYPE_CHECKING:
    from pykbroker.client import Client
    from pykbroker.protocol.messages.create_topics import CreatableTopic


DYNAMIC_TOPIC_CONFIG = 1
"""Kafka's number for a setting that a topic has of its own."""


@click.group("topics", short_help="List, describe, create and delete topics.")
def command() -> None:
    """List, describe, create and delete topics."""


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
@bootstrap_option
@format_option
def describe(topic: str, bootstrap: str, form: str) -> None:
    """Show each partition of TOPIC: who leads it, which offsets it has, what waits to get into it.

    Below are the settings that it has of its own; `pykbroker settings --of topic` lists all.
    """

    async def story(client: Client) -> tuple[list[Row], Waiting | None, dict[str, str]]:
        rows = await _describe(client, topic)
        waiting = (await waiting_records(client, [topic])).get(topic)
        return rows, waiting, await _own_settings(client, topic) if form == "table" else {}

    rows, waiting, own = ask(bootstrap, story)
    if waiting is not None and form == "json":
        rows = [{**row, **fields(waiting.of(int(str(row["partition"]))))} for row in rows]
    show(rows, form)
    if waiting is not None and form == "table":
        click.echo(f"\nwaiting: {waiting}")
    if own:
        click.echo()
    for name, value in own.items():
        click.echo(f"{name} = {printable(value)}")


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
@click.option("-c", "--config", "configs", metavar="KEY=VALUE", multiple=True, help="A topic setting.")
@bootstrap_option
def create(topic: str, partitions: int | None, configs: tuple[str, ...], bootstrap: str) -> None:
    """Create TOPIC.  `pykbroker settings --of topic` lists the settings it may have."""

    async def story(client: Client) -> None:
        from pykbroker.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse

        request = CreateTopicsRequest(topics=[_new_topic(topic, partitions, configs)])
        answer = await (await client.controller()).send(request, CreateTopicsResponse)
        _check([(each.name, each.error_code, each.error_message) for each in answer.topics])

    ask(bootstrap, story)
    click.echo(f"created {topic}")


def _new_topic(topic: str, partitions: int | None, configs: Sequence[str]) -> CreatableTopic:
    from pykbroker.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig

    pairs = [text.partition("=") for text in configs]
    for name, equals, value in pairs:
        if not equals:
            raise click.UsageError(f"--config {name}{value}: must be KEY=VALUE")
    return CreatableTopic(
        name=topic,
        num_partitions=-1 if partitions is None else partitions,
        replication_factor=-1,
        configs=[CreatableTopicConfig(name=name, value=value) for name, _, value in pairs],
    )


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
            topics=[DeleteTopicState(name=name) for name in topics], topic_names=list(topics)
        )
        answer = await (await client.controller()).send(request, DeleteTopicsResponse)
        _check([(each.name, each.error_code, each.error_message) for each in answer.responses])

    ask(bootstrap, story)
    click.echo(f"deleted {', '.join(topics)}")


def _check(results: Sequence[tuple[str | None, int, str | None]]) -> None:
    """Raise :class:`Failed` naming everything that was refused, and why."""
    from pykbroker.errors import ErrorCode

    refused = [
        f"{name}: {message or ErrorCode(code).name} ({ErrorCode(code).name})"
        for name, code, message in results
        if code
    ]
    if refused:
        raise Failed("; ".join(refused))
