"""Names of topics made from other names: ``{topic}`` and ``{group}`` stand for those of a failure.

The defaults and what is allowed are here once for topic, group and broker.
"""

from __future__ import annotations

from typing import Final

RETRY_TOPIC: Final = "{topic}.{group}.retry"
DEAD_LETTER_TOPIC: Final = "{topic}.{group}.dlq"

_PART = r"(?:[A-Za-z0-9._-]|\{topic\}|\{group\})"
PER_GROUP: Final = rf"(?=.*\{{topic\}})(?=.*\{{group\}}){_PART}{{1,249}}"
PER_GROUP_TEXT: Final = "the name of a topic that contains {topic} and {group}"
ANY: Final = rf"(?!\{{topic\}}$|\{{group\}}$){_PART}{{0,249}}"
ANY_TEXT: Final = "the name of a topic, which may contain {topic} and {group} beside other characters"

LONGEST_MS: Final = 100 * 366 * 24 * 3600 * 1000
"""A century: the longest delay, so that a due time always fits into 64 bits."""


def filled(template: str, topic: str, group: str) -> str:
    """The name that ``template`` gives; ``group`` must be fit for the name of a topic."""
    # Neither value can contain a brace, so one cannot bring in the other's place.
    return template.replace("{topic}", topic).replace("{group}", group)


def found(template: str, topic: str, name: str) -> str | None:
    """The group's part of ``name`` if ``template`` gives that name for ``topic`` and some group."""
    before, *rest = template.replace("{topic}", topic).split("{group}")
    if not rest or not name.startswith(before):
        return None
    size = len(name) - len(before) - sum(map(len, rest))
    if size < len(rest) or size % len(rest):
        return None
    group = name[len(before) :][: size // len(rest)]
    return group if group.join([before, *rest]) == name else None


def is_per_group(template: str) -> bool:
    """Whether each group on each topic gets a name of its own."""
    return "{topic}" in template and "{group}" in template
