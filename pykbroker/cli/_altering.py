"""Altering settings of topics, groups and brokers: the options, all or nothing, and what has changed.

Everything is checked by the broker first, and altered only when it agrees to all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click

from pykbroker.cli import _settings
from pykbroker.cli._client import Row, bootstrap_option, format_option, show
from pykbroker.cli._errors import Failed

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pykbroker.cli._settings import InForce
    from pykbroker.client import Client
    from pykbroker.config import Setting

Command = TypeVar("Command", bound=Callable[..., None])
_Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]

SET, DELETE = 0, 1

_LOOKS, _LOOK_AGAIN_S = 20, 0.1
"""How often a broker is asked whether it has come to see what it acknowledged."""

KINDS = {_settings.TOPIC: "topic", _settings.BROKER: "broker", _settings.GROUP: "group"}


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What to do to the settings of each resource."""

    sets: Mapping[str, str]
    unsets: Sequence[str]

    @property
    def begins_retries(self) -> bool:
        """Whether it sets a retry policy: whoever does so asks next what to subscribe to."""
        return self.sets.get("pykbroker.retry.policy", "none") != "none"

    @property
    def names(self) -> list[str]:
        """The settings it is about, in the order given."""
        return [*self.sets, *self.unsets]


def alter_options(kind: int) -> Callable[[Command], Command]:
    """``--set``, ``--unset``, ``--dry-run``, where the cluster is, and how output looks."""

    def added(command: Command) -> Command:
        for option in (
            format_option,
            bootstrap_option,
            click.option("--dry-run", is_flag=True, help="Have the broker check everything, alter nothing."),
            click.option(
                "--unset",
                "unsets",
                metavar="KEY",
                multiple=True,
                help="Take a setting back to its default; may be repeated.",
                shell_complete=_completing(kind, "{name}"),
            ),
            set_option(kind, "--set", help="A setting; may be repeated."),
        ):
            command = option(command)
        return command

    return added


def set_option(kind: int, *names: str, help: str) -> Callable[[Command], Command]:
    """An option that takes ``KEY=VALUE``, and completes the names of settings in a shell."""
    return click.option(
        *names,
        "sets",
        metavar="KEY=VALUE",
        multiple=True,
        help=help,
        shell_complete=_completing(kind, "{name}="),
    )


def edit(sets: Sequence[str], unsets: Sequence[str]) -> Edit:
    """What the options say; raises UsageError."""
    pairs = key_values("--set", sets)
    names = [*pairs, *unsets]
    for name in names:
        if names.count(name) > 1:
            raise click.UsageError(f"{name}: is to be both set and unset, or unset twice")
    return Edit(sets=pairs, unsets=unsets)


def key_values(option: str, texts: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` texts; raises UsageError."""
    found: dict[str, str] = {}
    for name, equals, value in (text.partition("=") for text in texts):
        if not equals or not name:
            raise click.UsageError(f"{option} {name}{value}: must be KEY=VALUE")
        if name in found:
            raise click.UsageError(f"{option}: {name} is given twice")
        found[name] = value
    return found


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An alteration that the broker would accept.  ``before`` is by resource, as the table names it."""

    kind: int
    names: Sequence[str]
    edit: Edit
    before: Mapping[str, Mapping[str, InForce]]

    async def carry_out(self, client: Client) -> None:
        """Alter; raises :class:`Failed`."""
        await _send(client, self.kind, self.names, self.edit, validate_only=False)

    async def rows(self, client: Client, *, dry_run: bool) -> list[Row]:
        """Setting by setting, what held before, and what holds now or would."""
        now = self.before if dry_run else await self._after(client)
        return [self._row(name, setting, now, dry_run) for name in self.names for setting in self.edit.names]

    async def _after(self, client: Client) -> Mapping[str, Mapping[str, InForce]]:
        """What holds now.  Apache Kafka describes an alteration a moment after it was acknowledged."""
        import trio

        for _ in range(_LOOKS):
            now = await described(client, self.kind, self.names, self.edit.names)
            if all(self._to_be_seen(name, now[name]) for name in self.names):
                break
            await trio.sleep(_LOOK_AGAIN_S)
        return now

    def _to_be_seen(self, name: str, now: Mapping[str, InForce]) -> bool:
        """Whether ``now`` is after the alteration, as far as that can be told."""
        before, own = self.before[name], self._source(name)
        for setting, value in self.edit.sets.items():
            was, has = before.get(setting), now.get(setting)
            hidden = own == "brokers" and was is not None and was.source == "broker"
            same = has is None or was is None or was.value == has.value  # it may name the source first
            if same and not hidden and (has is None or (has.value, has.source) != (value, own)):
                return False
        unset = [each for each in self.edit.unsets if each in before and before[each].source == own]
        return all(before[each] != now.get(each) for each in unset)

    def _source(self, name: str) -> str:
        """Who will have said so."""
        return KINDS[self.kind] + ("s" if self.kind == _settings.BROKER and not name else "")

    def _row(
        self, name: str, setting: str, now: Mapping[str, Mapping[str, InForce]], dry_run: bool
    ) -> dict[str, object]:
        before, after = self.before[name].get(setting), now[name].get(setting)
        value = None if after is None else after.value
        source = None if after is None else after.told
        if dry_run:
            value, source = self.edit.sets.get(setting), None
        if setting in self.edit.sets and source is None:
            source = self._source(name)
        return {
            KINDS[self.kind]: name or "all",
            "setting": setting,
            "before": None if before is None else before.value,
            "after": value,
            "source": source,
        }


async def plan(client: Client, kind: int, names: Sequence[str], wanted: Edit) -> Plan:
    """Have the broker look at it; raises :class:`Failed` with everything that it would refuse."""
    await check_own(client, wanted.sets, "nothing was altered")
    before = await described(client, kind, names, wanted.names)
    await _check_unset(client, kind, names, wanted)
    await _send(client, kind, names, wanted, validate_only=True)
    return Plan(kind=kind, names=names, edit=wanted, before=before)


async def check_own(client: Client, names: Iterable[str], undone: str) -> None:
    """Raise :class:`Failed`, saying what is ``undone``, where pykbroker's own settings are not there."""
    own = [name for name in names if name.startswith("pykbroker.")]
    if own:
        await _settings.need_pykbroker(client, f"there is no setting {own[0]}, {undone}")


async def described(
    client: Client, kind: int, names: Sequence[str], keys: Sequence[str]
) -> Mapping[str, Mapping[str, InForce]]:
    """What holds now; for all brokers ("") what does on the one that takes alterations."""
    if kind != _settings.BROKER:
        return await _settings.in_force(client, kind, names, keys) if keys else {name: {} for name in names}
    here = str((await client.metadata([])).controller_id)
    found = await _settings.in_force(client, kind, sorted({name or here for name in names}), keys)
    return {name: found[name or here] for name in names}


async def _check_unset(client: Client, kind: int, names: Sequence[str], wanted: Edit) -> None:
    """A broker lets anything be taken away that is not there, a misspelt name too."""
    from pykbroker.config import ConfigError
    from pykbroker.config.extensions import is_plugin_setting
    from pykbroker.config.setting import unknown

    known = set(table(kind))
    odd = [name for name in wanted.unsets if name not in known and not is_plugin_setting(name)]
    if odd:  # a broker that is newer than this command may know it
        for of in (await described(client, kind, names, odd)).values():
            known |= set(of)
    problems: list[ConfigError] = [unknown(name, None, known) for name in odd if name not in known]
    if problems:
        raise Failed("; ".join(f"--unset {each.name}: {each.reason}" for each in problems), _hint(kind))


async def _send(
    client: Client, kind: int, names: Sequence[str], wanted: Edit, *, validate_only: bool
) -> None:
    from pykbroker.protocol.messages.incremental_alter_configs import (
        AlterableConfig,
        AlterConfigsResource,
        IncrementalAlterConfigsRequest,
        IncrementalAlterConfigsResponse,
    )

    if not wanted.names:
        return
    configs = [
        *(
            AlterableConfig(name=name, config_operation=SET, value=value)
            for name, value in wanted.sets.items()
        ),
        *(AlterableConfig(name=name, config_operation=DELETE, value=None) for name in wanted.unsets),
    ]
    resources = [
        AlterConfigsResource(resource_type=kind, resource_name=name, configs=configs) for name in names
    ]
    request = IncrementalAlterConfigsRequest(resources=resources, validate_only=validate_only)
    answer = await (await client.controller()).send(request, IncrementalAlterConfigsResponse)
    check_results(
        [
            (each.resource_name or "all brokers", each.error_code, each.error_message)
            for each in answer.responses
        ],
        _hint(kind),
    )


def show_changes(rows: Sequence[Row], form: str, *, dry_run: bool) -> None:
    """Print what has changed, or would."""
    if form == "table":
        cut = {"before", "after"}
        rows = [
            {name: _settings.short(str(v)) if name in cut and v is not None else v for name, v in row.items()}
            for row in rows
        ]
    show(rows, form)
    if dry_run and form == "table":
        click.echo("\nnothing was altered: the broker would accept it")


def check_results(results: Sequence[tuple[str | None, int, str | None]], hint: str = "") -> None:
    """Raise :class:`Failed` naming everything that was refused, and why."""
    from pykbroker.errors import ErrorCode

    refused = [
        f"{name}: {ErrorCode(code).name if not message else f'{message} ({ErrorCode(code).name})'}"
        for name, code, message in results
        if code
    ]
    if refused:
        raise Failed("; ".join(refused), hint)


def _hint(kind: int) -> str:
    return f"Nothing was altered.  `pykbroker settings --of {KINDS[kind]}` lists the settings there are"


def table(kind: int) -> Mapping[str, Setting]:
    """The settings of a topic, a broker or a group that this version knows."""
    from pykbroker.config import BrokerConfig, GroupConfig, TopicConfig, settings_of

    tables = {
        _settings.TOPIC: TopicConfig,
        _settings.BROKER: BrokerConfig,
        _settings.GROUP: GroupConfig,
    }
    return settings_of(tables[kind])


def _completing(kind: int, form: str) -> _Complete:
    """Completes names of settings, and behind ``=`` the values where there are only a few."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        name, equals, value = incomplete.partition("=")
        rows = table(kind)
        if not equals:
            return [
                CompletionItem(form.format(name=each), help=row.doc)
                for each, row in rows.items()
                if name in each and (kind != _settings.BROKER or row.dynamic)
            ]
        choices = rows[name].choices if name in rows else ()
        return [CompletionItem(f"{name}={each}") for each in choices if each.startswith(value)]

    return complete
