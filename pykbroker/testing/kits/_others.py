"""The kits for policies, services and commands."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import trio

from pykbroker.components import (
    COMMAND,
    CONFIG_POLICY,
    SERVICE,
    TOPIC_POLICY,
    ConfigPolicy,
    ConfigPolicyContext,
    PolicyViolation,
    Service,
    ServiceContext,
    TopicPolicy,
    TopicPolicyContext,
)
from pykbroker.testing.kits._making import NOW_MS, KitFailure, Make, Values, call, component_settings, make

C = TypeVar("C")

ENDS_S = 2.0
"""Time that a service has to end when it is cancelled, more than a broker has at its stop."""


def check_topic_policy(
    component: Make[TopicPolicy],
    *,
    settings: Values | None = None,
    allows: tuple[TopicPolicyContext, ...] = (),
    refuses: tuple[TopicPolicyContext, ...] = (),
) -> None:
    """Whatever the topic, ``check`` returns, or raises PolicyViolation with a sentence.

    ``allows`` and ``refuses`` are topics that it must let pass and refuse.
    """
    policy = make(TOPIC_POLICY, component, settings, topic=None)
    for name in ("orders", "a.b_c-1", "x" * 249):
        for created in (True, False):
            for own in ({}, {"retention.ms": "-1"}, {"cleanup.policy": "compact", "retention.ms": "1"}):
                ctx = TopicPolicyContext(
                    topic=name, partitions=3, replication_factor=1, settings=own, created=created
                )
                _agrees(policy.check, ctx)
    _check_examples(policy.check, allows, refuses)


def check_config_policy(
    component: Make[ConfigPolicy],
    *,
    settings: Values | None = None,
    allows: tuple[ConfigPolicyContext, ...] = (),
    refuses: tuple[ConfigPolicyContext, ...] = (),
) -> None:
    """Whatever is altered, ``check`` returns, or raises PolicyViolation with a sentence.

    ``allows`` and ``refuses`` are alterations that it must let pass and refuse.
    """
    policy = make(CONFIG_POLICY, component, settings, topic=None)
    own = {"retention.ms": "1000", "pykbroker.plugin.a.b": "c"}
    for resource, name in (("topic", "orders"), ("broker", "0"), ("broker", ""), ("group", "g")):
        for before, after in (({}, own), (own, {}), (own, {**own, "retention.ms": "-1"})):
            _agrees(
                policy.check, ConfigPolicyContext(resource=resource, name=name, before=before, after=after)
            )
    _check_examples(policy.check, allows, refuses)


def _check_examples(check: Callable[[C], None], allows: tuple[C, ...], refuses: tuple[C, ...]) -> None:
    for ctx in allows:
        if not _agrees(check, ctx):
            raise KitFailure(f"check() refuses {ctx!r:.300}")
    for ctx in refuses:
        if _agrees(check, ctx):
            raise KitFailure(f"check() lets pass {ctx!r:.300}")


def _agrees(check: Callable[[C], None], ctx: C) -> bool:
    try:
        answer: object = call("check()", check, ctx, expected=PolicyViolation)
    except PolicyViolation as violation:
        if not str(violation).strip():
            raise KitFailure(f"check() refuses {ctx!r:.300} without a word for the user") from violation
        return False
    if answer is not None:
        raise KitFailure(f"check() gave {answer!r:.100}: a policy refuses by raising PolicyViolation")
    return True


def check_service(component: Make[Service], *, settings: Values | None = None, run_s: float = 0.05) -> None:
    """``run`` is awaited, does not raise, and ends soon after it is cancelled, or by itself.

    It runs for ``run_s`` seconds; the broker that its context names does not exist.
    """
    service = make(SERVICE, component, settings, topic=None)
    with tempfile.TemporaryDirectory() as folder:
        ctx = ServiceContext(
            bootstrap="127.0.0.1:9",  # the discard port: nobody answers
            listeners=("127.0.0.1:9",),
            node_id=1,
            cluster_id="kit",
            data_dir=Path(folder),
            settings=component_settings(SERVICE, component, settings),
            time_ms=lambda: NOW_MS,
        )
        trio.run(_live, service, ctx, run_s)


async def _live(service: Service, ctx: ServiceContext, run_s: float) -> None:
    failures: list[Exception] = []
    cancelled = math.inf
    async with trio.open_nursery() as nursery:

        async def cancel() -> None:
            nonlocal cancelled
            await trio.sleep(run_s)
            cancelled = trio.current_time()
            nursery.cancel_scope.cancel()

        nursery.start_soon(cancel)
        try:
            await service.run(ctx)
        except Exception as error:  # noqa: BLE001  # the code under test
            failures.append(error)
        nursery.cancel_scope.cancel()
    late = trio.current_time() - cancelled
    if late > ENDS_S:
        raise KitFailure(
            f"the service ended {late:.1f} s after it was cancelled: a stop does not wait for it"
        )
    if failures:
        raise KitFailure(f"run() raised {failures[0]!r}") from failures[0]


def check_command(component: Make[click.Command], *, settings: Values | None = None) -> None:
    """It is a click command that can say what it is for, in one line and at length."""
    from click.testing import CliRunner

    command: object = make(COMMAND, component, settings, topic=None)
    if not isinstance(command, click.Command):
        raise KitFailure(f"the factory made a {type(command).__name__}, which is no click.Command")
    if not command.get_short_help_str():
        raise KitFailure("the command has no help: its first line is what `pykbroker --help` shows")
    result = CliRunner().invoke(command, ["--help"])
    if result.exit_code != 0:
        raise KitFailure(f"--help ends with status {result.exit_code}: {result.output}")
