"""Settings in force, as a broker describes them: what holds, and who said so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from pykbroker.cli._client import Row, show
from pykbroker.cli._errors import Failed
from pykbroker.cli._letter_text import printable

if TYPE_CHECKING:
    from pykbroker.client import Client

TOPIC: Final = 2
BROKER: Final = 4
GROUP: Final = 32
"""Types of config resources."""

_SOURCES: Final = {1: "topic", 2: "broker", 3: "brokers", 4: "start", 5: "default", 8: "group"}
_DEFAULT: Final = "default"
LONGEST: Final = 100
_KAFKA_DEFAULT: Final = 5
_SIGN: Final = "pykbroker.retry.policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """One setting of a topic, a group or a broker.

    ``value`` is None where a group leaves it to the topic, or nothing is set.  ``given_by`` is the
    setting that it comes from: a broker's setting of another name may give a topic's default.
    """

    name: str
    value: str | None
    source: str
    given_by: str

    @property
    def told(self) -> str:
        """The source, with the setting's name where that is another."""
        return self.source if self.given_by == self.name else f"{self.source}: {self.given_by}"

    @property
    def worth_showing(self) -> bool:
        """Whether somebody set it, or it is pykbroker's own; others are as in Kafka, or as plugins say."""
        own = self.name.startswith("pykbroker.") and not self.name.startswith("pykbroker.plugin.")
        return own or self.source != _DEFAULT


async def in_force(
    client: Client, kind: int, names: Sequence[str], keys: Sequence[str] | None = None
) -> dict[str, dict[str, InForce]]:
    """By resource, its settings by name, all or ``keys``.  Raises KafkaError for one that is not there."""
    from pykbroker.client.client import check_code
    from pykbroker.protocol.messages.describe_configs import (
        DescribeConfigsRequest,
        DescribeConfigsResource,
        DescribeConfigsResponse,
    )

    resources = [
        DescribeConfigsResource(
            resource_type=kind, resource_name=name, configuration_keys=None if keys is None else list(keys)
        )
        for name in names
    ]
    request = DescribeConfigsRequest(resources=resources, include_synonyms=True)
    found: dict[str, dict[str, InForce]] = {}
    for each in (await client.send(request, DescribeConfigsResponse)).results:
        check_code(each.error_code, each.error_message)
        found[each.resource_name] = {
            row.name: InForce(
                name=row.name,
                value=row.value,
                source="topic"
                if kind == GROUP and row.value is None
                else _SOURCES.get(row.config_source, str(row.config_source)),
                given_by=row.synonyms[0].name
                if row.synonyms and row.config_source != _KAFKA_DEFAULT
                else row.name,
            )
            for row in each.configs
        }
    return found


async def is_pykbroker(client: Client) -> bool:
    """Whether the cluster has pykbroker's own settings.  Apache Kafka takes any name for a broker, without
    a value that it would show."""
    here = str((await client.metadata([])).controller_id)
    found = (await in_force(client, BROKER, [here], [_SIGN]))[here].get(_SIGN)
    return found is not None and found.value is not None


async def need_pykbroker(client: Client, what: str) -> None:
    """Raise :class:`Failed` where ``what`` would do nothing."""
    if not await is_pykbroker(client):
        raise Failed(f"{what}: the broker is no pykbroker", "-b says where one is")


def rows(settings: Mapping[str, InForce], *, everything: bool) -> list[Row]:
    """A table of them: those that are worth showing, or all."""
    return [
        {
            "setting": each.name,
            "value": short(each.value),
            "source": each.told,
        }
        for each in sorted(settings.values(), key=lambda each: each.name)
        if everything or each.worth_showing
    ]


def short(value: str | None) -> str | None:
    """A value in a table, cut where it is long: bindings may have many thousand characters."""
    if value is None:
        return None
    line = printable(value)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def as_json(settings: Mapping[str, InForce], *, everything: bool) -> list[dict[str, object]]:
    """The same for programs."""
    return [
        {"setting": each.name, "value": each.value, "source": each.source, "given_by": each.given_by}
        for each in sorted(settings.values(), key=lambda each: each.name)
        if everything or each.worth_showing
    ]


def print_(
    settings: Mapping[str, InForce], form: str, *, everything: bool, more: Mapping[str, object] | None = None
) -> None:
    """Print them; as JSON in one object with ``more``."""
    if form == "json":
        click.echo(
            json.dumps({"settings": as_json(settings, everything=everything), **(more or {})}, indent=2)
        )
    else:
        show(rows(settings, everything=everything), form)
