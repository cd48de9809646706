"""Interceptors of pykbroker: ``add-header``, ``redact-field``."""

from __future__ import annotations

from collections.abc import Iterable

from pykbroker import Component, Interceptor, Kind, PluginSetting, hookimpl
from pykbroker_interceptors.headers import add_header
from pykbroker_interceptors.redact import redact_field

TOPICS = frozenset({"broker", "topic"})


@hookimpl
def pykbroker_register_interceptors() -> Iterable[Component[Interceptor]]:
    """What topics may name in ``pykbroker.interceptors``."""
    return [
        Component(
            "add-header",
            add_header,
            settings=[
                PluginSetting(
                    key="name", kind=Kind.STRING, default="", doc="The header's name; needed.", scopes=TOPICS
                ),
                PluginSetting(
                    key="value",
                    kind=Kind.STRING,
                    default="",
                    doc="The header's value: `{client_id}`, `{topic}`, `{partition}` and `{time_ms}` (when "
                    "the broker got the record) stand for what they say.",
                    scopes=TOPICS,
                ),
                PluginSetting(
                    key="replace",
                    kind=Kind.BOOLEAN,
                    default=True,
                    doc="Whether headers of that name that the producer set are dropped.",
                    scopes=TOPICS,
                ),
            ],
            doc="Puts a header on every record.",
        ),
        Component(
            "redact-field",
            redact_field,
            settings=[
                PluginSetting(
                    key="fields",
                    kind=Kind.LIST,
                    default=(),
                    doc="The fields, as names joined by dots (`card.number`); an array on the way means all "
                    "its elements.",
                    scopes=TOPICS,
                ),
                PluginSetting(
                    key="mask",
                    kind=Kind.STRING,
                    default="***",
                    doc="The text that takes a field's place.",
                    scopes=TOPICS,
                ),
                PluginSetting(
                    key="otherwise",
                    kind=Kind.STRING,
                    default="mask",
                    choices=("mask", "keep"),
                    doc="What happens to a value that is not JSON: the mask takes its place, or it is kept.",
                    scopes=TOPICS,
                ),
            ],
            doc="Masks fields of values that are JSON.",
        ),
    ]
