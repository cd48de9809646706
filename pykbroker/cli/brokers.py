"""``pykbroker brokers``: the brokers of a cluster, and their settings while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pykbroker.cli import _altering, _settings
from pykbroker.cli._client import Row, ask, bootstrap_option, format_option, show

if TYPE_CHECKING:
    from pykbroker.client import Client


@click.group("brokers", short_help="List brokers, describe and alter their settings.")
def command() -> None:
    """List brokers; describe and alter their settings while they run."""


@command.command("list")
@bootstrap_option
@format_option
def list_(bootstrap: str, form: str) -> None:
    """List the brokers of the cluster: id, address, the controller."""

    async def story(client: Client) -> list[Row]:
        found = await client.metadata([])
        return [
            {
                "broker": each.node_id,
                "host": each.host,
                "port": each.port,
                "controller": "yes" if each.node_id == found.controller_id else "no",
            }
            for each in sorted(found.brokers, key=lambda each: each.node_id)
        ]

    show(ask(bootstrap, story), form)


@command.command()
@click.argument("broker", required=False)
@click.option("--all", "everything", is_flag=True, help="Kafka's settings with their defaults too.")
@bootstrap_option
@format_option
def describe(broker: str | None, everything: bool, bootstrap: str, form: str) -> None:
    """Show the settings in force of a broker.

    BROKER is an id; if none is given it is the one that takes alterations.

    \b
    Shown are those that are pykbroker's own or not as by default, and who says so:
      broker   altered while it runs, for this one; brokers: for all
      start    given when it was started (file, environment or --set)
      default  nobody
    """

    async def story(client: Client) -> dict[str, _settings.InForce]:
        name = broker or str((await client.metadata([])).controller_id)
        return (await _settings.in_force(client, _settings.BROKER, [name]))[name]

    _settings.print_(ask(bootstrap, story), form, everything=everything)


@command.command()
@click.argument("brokers", metavar="[BROKER]...", nargs=-1)
@_altering.alter_options(_settings.BROKER)
def alter(
    brokers: tuple[str, ...],
    sets: tuple[str, ...],
    unsets: tuple[str, ...],
    dry_run: bool,
    bootstrap: str,
    form: str,
) -> None:
    """Alter settings of brokers that run.

    BROKER is an id; if none is given all are altered.

    What is altered holds at once, and after a restart too.  Settings that cannot be altered while a
    broker runs are refused: `pykbroker serve --set`.

    \b
    Retry whatever any consumer cannot process, unless its topic or group says otherwise:
      pykbroker brokers alter --set pykbroker.retry.policy=exponential
      pykbroker groups alter reports --set pykbroker.retry.policy=none

    \b
    Topics without retention.ms keep records for an hour; then as the broker was started again:
      pykbroker brokers alter --set log.retention.ms=3600000
      pykbroker brokers alter --unset log.retention.ms

    `pykbroker settings --of broker` lists all settings, `brokers describe` what holds.
    """
    wanted = _altering.edit(sets, unsets)
    if not wanted.names:
        raise click.UsageError("nothing to alter: give --set KEY=VALUE or --unset KEY")
    names = brokers or ("",)

    async def story(client: Client) -> list[Row]:
        plan = await _altering.plan(client, _settings.BROKER, names, wanted)
        if not dry_run:
            await plan.carry_out(client)
        return await plan.rows(client, dry_run=dry_run)

    _altering.show_changes(ask(bootstrap, story), form, dry_run=dry_run)
