"""Plugins made of functions, loaded without looking for installed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from pykbroker.components import Component, PartitionContext
from pykbroker.config import BrokerConfig
from pykbroker.hookspecs import hookimpl
from pykbroker.plugins import Plugins


def plugin(name: str, **hooks: Callable[..., object]) -> ModuleType:
    """A plugin module with these hooks."""
    module = ModuleType(name)
    for hook, function in hooks.items():
        setattr(module, hook, hookimpl(function))
    return module


class Fixed:
    """A partitioner that always says the same."""

    def __init__(self, answer: int = 0) -> None:
        self.answer = answer

    def choose(self, ctx: PartitionContext) -> int:
        return self.answer


def partitioners(name: str, *components: object) -> ModuleType:
    """A plugin that offers these as partitioners."""
    return plugin(name, pykbroker_register_partitioners=lambda: list(components))


def fixed(name: str = "fixed") -> Component[Fixed]:
    return Component(name, lambda ctx: Fixed())


@contextmanager
def loaded(*extra: object, config: BrokerConfig | None = None) -> Iterator[Plugins]:
    """Plugins with ``extra`` beside pykbroker's own, without the one that listens to everything."""
    quiet = BrokerConfig.from_texts({"pykbroker.plugins.block": "events"})
    plugins = Plugins.load(quiet if config is None else config, extra=extra)
    try:
        yield plugins
    finally:
        plugins.close()


def messages(plugins: Plugins) -> Sequence[str]:
    return [problem.message for problem in plugins.problems]
