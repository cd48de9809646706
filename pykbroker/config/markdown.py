"""The settings tables as Markdown, for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pykbroker.config.broker import BrokerConfig
from pykbroker.config.group import GroupConfig
from pykbroker.config.load import variable_of
from pykbroker.config.setting import Setting, settings_of
from pykbroker.config.topic import TopicConfig

_INTRO = """\
# Settings

Settings have Apache Kafka's names. They are read from a file (`--config`: TOML, whose tables flatten
with dots, or a `server.properties`), then from the environment (`PYKBROKER_` and the name in upper
case with dots as underscores), then from `--set NAME=VALUE`; the last one wins. A name or value that
is not allowed is refused. This page is generated from the tables in `pykbroker/config/`.
"""


def render() -> str:
    """The whole page."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield _INTRO
    broker = settings_of(BrokerConfig).values()
    yield "## Where the default is not Apache Kafka's\n"
    yield "| setting | here | Apache Kafka |\n|---|---|---|"
    for row in broker:
        if row.kafka_default is not None:
            yield f"| `{row.name}` | `{_default(row)}` | `{row.kafka_default}` |"
    yield "\n## Broker\n"
    yield "A topic setting's name, given to the broker, is the default for all topics.\n"
    yield from _table(broker, variables=True)
    yield "\n## Topic\n"
    yield "Set when a topic is created, or later: `pykbroker topics alter`, or any admin client.\n"
    yield from _table(settings_of(TopicConfig).values(), variables=False)
    yield "\n## Group\n"
    yield from _table(settings_of(GroupConfig).values(), variables=False)


def _table(rows: Iterable[Setting], *, variables: bool) -> Iterator[str]:
    yield "| setting | type | default | allowed | what it does |\n|---|---|---|---|---|"
    for row in rows:
        more = ""
        if row.synonyms and row.synonyms[0][0] != row.name:
            more = f" Default from `{row.synonyms[0][0]}`."
        elif row.dynamic:
            more = " May be altered at run time."
        variable = f"<br>`{variable_of(row.name)}`" if variables else ""
        cells = [f"`{row.name}`{variable}", row.kind.value, f"`{_default(row)}`", row.allowed, row.doc + more]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(row: Setting) -> str:
    text = row.render(row.default)
    return "not set" if text is None else text or "(empty)"
