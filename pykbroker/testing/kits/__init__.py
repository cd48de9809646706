"""Conformance kits: what every component must do, whatever it is for; one line in a test runs one.

::

    from pykbroker.testing import check_plugin
    import my_plugin

    def test_conformance() -> None:
        check_plugin(my_plugin)

runs the kit of each component that the plugin registers.  The kits of single components take examples
as well, of what this one should say::

    def test_keys_are_needed() -> None:
        check_validator(REQUIRE_KEY, accepts=[RecordData(b"k", b"v")], refuses=[RecordData(None, b"v")])

A component is given as a :class:`pykbroker.Component`, with ``settings`` (by key, as text or Python
values) where it needs some, or as a callable without arguments that makes the object.  What does not
conform raises :class:`KitFailure`, an AssertionError that says what was asked and what came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from pykbroker.components import (
    COMMAND,
    CONFIG_POLICY,
    EXCHANGE_TYPE,
    INTERCEPTOR,
    KINDS,
    PARTITIONER,
    RETRY_POLICY,
    SERVICE,
    TOPIC_POLICY,
    VALIDATOR,
)
from pykbroker.plugins.registry import Unfit, hooks_of, new_manager
from pykbroker.testing.kits._batches import check_interceptor, check_validator
from pykbroker.testing.kits._exchange import check_exchange_type
from pykbroker.testing.kits._making import KitFailure, Make, Values, take
from pykbroker.testing.kits._others import (
    check_command,
    check_config_policy,
    check_service,
    check_topic_policy,
)
from pykbroker.testing.kits._partitioner import check_partitioner
from pykbroker.testing.kits._retry import check_retry_policy, retry_context

__all__ = [
    "KitFailure",
    "check_command",
    "check_config_policy",
    "check_exchange_type",
    "check_interceptor",
    "check_partitioner",
    "check_plugin",
    "check_retry_policy",
    "check_service",
    "check_topic_policy",
    "check_validator",
    "retry_context",
]

_KITS: Mapping[str, Callable[..., None]] = {
    PARTITIONER.name: check_partitioner,
    EXCHANGE_TYPE.name: check_exchange_type,
    VALIDATOR.name: check_validator,
    INTERCEPTOR.name: check_interceptor,
    RETRY_POLICY.name: check_retry_policy,
    TOPIC_POLICY.name: check_topic_policy,
    CONFIG_POLICY.name: check_config_policy,
    SERVICE.name: check_service,
    COMMAND.name: check_command,
}


def check_plugin(plugin: object, *, settings: Mapping[str, Values] | None = None) -> None:
    """Check that a broker would take ``plugin`` (a module or object), and each component it registers.

    ``settings`` are those that components need to be made, by component name and key.
    """
    try:
        hooks = hooks_of(new_manager(), plugin)
    except Unfit as unfit:
        raise KitFailure(f"a broker would leave this plugin out: {unfit}") from unfit
    for kind in KINDS:
        if kind.hook not in hooks:
            continue
        register = cast("Callable[[], object]", getattr(plugin, kind.hook))
        seen: dict[str, Make[object]] = {}
        for component in take(kind, register()):
            if component.name in seen:
                raise KitFailure(f"the {kind} {component.name!r} is registered twice")
            seen[component.name] = component
            # Components of several kinds may share a name; each takes the settings that it declares.
            declared = {setting.key for setting in component.settings}
            given = (settings or {}).get(component.name, {})
            _KITS[kind.name](component, settings={k: v for k, v in given.items() if k in declared})
