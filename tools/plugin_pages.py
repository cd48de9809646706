"""Writes what docs/plugins/*.md say of the code: ``python tools/plugin_pages.py``.

Each page has one part between two marks that is generated from docstrings and signatures, and the rest
is written by hand.  A test holds every page to what this would write.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from pykbroker import components, events, hookspecs  # noqa: E402  # the path comes first

BEGIN = "<!-- generated from the code: python tools/plugin_pages.py -->"
END = "<!-- end of what is generated -->"
FOLDER = ROOT / "docs" / "plugins"

PAGES: Mapping[str, tuple[str, Sequence[type]]] = {
    "partitioners": (
        "pykbroker_register_partitioners",
        (components.Partitioner, components.PartitionContext),
    ),
    "exchange-types": (
        "pykbroker_register_exchange_types",
        (components.ExchangeType, components.Matcher, components.Binding, components.RoutingContext),
    ),
    "validators": (
        "pykbroker_register_validators",
        (components.Validator, components.ValidationContext, components.BatchView, components.RecordError),
    ),
    "interceptors": (
        "pykbroker_register_interceptors",
        (components.Interceptor, components.InterceptContext),
    ),
    "retry-policies": (
        "pykbroker_register_retry_policies",
        (
            components.RetryPolicy,
            components.RetryContext,
            components.Retry,
            components.DeadLetter,
            components.Discard,
        ),
    ),
    "topic-policies": (
        "pykbroker_register_topic_policies",
        (components.TopicPolicy, components.TopicPolicyContext, components.PolicyViolation),
    ),
    "config-policies": (
        "pykbroker_register_config_policies",
        (components.ConfigPolicy, components.ConfigPolicyContext, components.PolicyViolation),
    ),
    "services": (
        "pykbroker_register_services",
        (components.Service, components.ServiceContext, components.Settings),
    ),
    "commands": ("pykbroker_register_commands", ()),
    "started": ("pykbroker_started", (events.BrokerStarted,)),
    "topic-changed": ("pykbroker_topic_changed", (events.TopicChanged,)),
    "connection-changed": ("pykbroker_connection_changed", (events.ConnectionChanged,)),
    "records-appended": ("pykbroker_records_appended", (events.RecordsAppended,)),
    "group-changed": ("pykbroker_group_changed", (events.GroupChanged,)),
    "record-unroutable": ("pykbroker_record_unroutable", (events.RecordUnroutable,)),
    "record-retried": ("pykbroker_record_retried", (events.RecordRetried,)),
    "record-dead-lettered": ("pykbroker_record_dead_lettered", (events.RecordDeadLettered,)),
    "record-replayed": ("pykbroker_record_replayed", (events.RecordReplayed,)),
    "nack-skipped": ("pykbroker_nack_skipped", (events.NackSkipped,)),
    "stopping": ("pykbroker_stopping", (events.BrokerStopping,)),
    "components": (
        "",
        (components.Component, components.PluginSetting, components.BuildContext, components.Settings),
    ),
}
"""Each page, the hook that it describes, and the classes that belong to it."""


def generated(page: str) -> str:
    """The generated part of ``page``, marks included."""
    hook, classes = PAGES[page]
    lines = [BEGIN, ""]
    if hook:
        function = getattr(hookspecs, hook)
        lines += [f"## `{hook}`", "", *_code(hook, function), "", *_prose(function)]
    for cls in classes:
        lines += ["", f"## `{cls.__name__}`", "", *_prose(cls), *_fields(cls)]
        for name, method in _methods(cls):
            lines += ["", *_shown(name, method), "", *_prose(method)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join([*lines, "", END]))


def renewed(page: str, text: str) -> str:
    """``text`` with its generated part as the code is now; raises ValueError if it has no marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/plugins/{page}.md lacks {BEGIN} or {END}")
    return f"{before}{generated(page)}{after}"


def _shown(name: str, member: object) -> list[str]:
    if isinstance(member, property):
        kind = inspect.signature(member.fget).return_annotation if member.fget is not None else "object"
        return ["```python", f"{name}: {kind}", "```"]
    return _code(name, member)


def _code(name: str, function: object) -> list[str]:
    assert callable(function)
    signature = inspect.signature(function)
    shown = str(signature.replace(parameters=[p for p in signature.parameters.values() if p.name != "self"]))
    word = "async def" if inspect.iscoroutinefunction(function) else "def"
    return ["```python", f"{word} {name}{shown.replace(chr(39), '')}", "```"]


def _prose(thing: object) -> list[str]:
    text = inspect.getdoc(thing) or ""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text).replace("``", "`")
    # A line of a hook's man page begins with what it answers.
    return re.sub(
        r"^((?:When|Returns|May wait|When it raises|`event`)[^:\n]*:) ", r"\n**\1** ", text, flags=re.M
    ).split("\n")


def _fields(cls: type) -> Iterator[str]:
    if not dataclasses.is_dataclass(cls):
        return
    yield from ("", "| field | type | default |", "|---|---|---|")
    for field in dataclasses.fields(cls):
        default = "" if field.default is dataclasses.MISSING else f"`{field.default!r}`"
        if field.default_factory is not dataclasses.MISSING:
            default = f"`{field.default_factory()!r}`"
        yield f"| `{field.name}` | `{str(field.type).replace('|', chr(92) + '|')}` | {default} |"


def _methods(cls: type) -> Iterator[tuple[str, object]]:
    for name, method in vars(cls).items():
        if not name.startswith("_") and (inspect.isfunction(method) or isinstance(method, property)):
            yield name, method


def main() -> None:
    """Rewrite the pages."""
    for page in PAGES:
        path = FOLDER / f"{page}.md"
        text = path.read_text()
        new = renewed(page, text)
        if new != text:
            path.write_text(new)
            print(f"rewritten: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
