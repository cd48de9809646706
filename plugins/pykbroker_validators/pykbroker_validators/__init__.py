"""Validators of pykbroker: ``require-key``, ``require-value``, ``json-schema``."""

from __future__ import annotations

from collections.abc import Iterable

from pykbroker import Component, Kind, PluginSetting, Validator, hookimpl
from pykbroker_validators.json_schema import json_schema
from pykbroker_validators.presence import require_key, require_value

TOPICS = frozenset({"broker", "topic"})


@hookimpl
def pykbroker_register_validators() -> Iterable[Component[Validator]]:
    """What topics may name in ``pykbroker.validators``."""
    return [
        Component(
            "require-key",
            require_key,
            settings=[
                PluginSetting(
                    key="bytes.min",
                    kind=Kind.INT,
                    default=0,
                    minimum=0,
                    doc="Bytes that a key must have at least.",
                    scopes=TOPICS,
                )
            ],
            doc="Refuses records without a key.",
        ),
        Component(
            "require-value",
            require_value,
            settings=[
                PluginSetting(
                    key="bytes.min",
                    kind=Kind.INT,
                    default=0,
                    minimum=0,
                    doc="Bytes that a value must have at least.",
                    scopes=TOPICS,
                )
            ],
            doc="Refuses records whose value is null.",
        ),
        Component(
            "json-schema",
            json_schema,
            settings=[
                PluginSetting(
                    key="schema",
                    kind=Kind.STRING,
                    default="",
                    doc="The schema, as JSON. Empty: any JSON will do.",
                    scopes=TOPICS,
                ),
                PluginSetting(
                    key="tombstones",
                    kind=Kind.BOOLEAN,
                    default=True,
                    doc="Whether a value may be null, which deletes a key of a compacted topic.",
                    scopes=TOPICS,
                ),
            ],
            doc="Refuses records whose value is not JSON that fits a schema.",
        ),
    ]
