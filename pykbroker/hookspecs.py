"""The extension API of pykbroker on one page: every hook that a plugin may implement.

A plugin is a module or an object with functions of these names marked with
:data:`~pykbroker.hookspecs.hookimpl`; or a class, which each broker makes an object of its own from, so
that it can keep state.  It is found by the entry point group ``pykbroker`` (``name = "module"`` or
``"module:Class"``), by ``--plugin`` (a module, ``module:Class``, a file) or in ``--plugins-dir``.  A
function may leave out arguments it does not need.

There are two sorts.  *Registering* hooks are called once, at start, and return components
(:mod:`pykbroker.components`): named factories of objects that are then called directly.  *Event* hooks
hear of what has happened (:mod:`pykbroker.events`), after the fact; they cannot change it.

For all hooks: every plugin that implements one is called, the last registered first (``tryfirst`` and
``trylast`` move it).  Wrappers are refused.  A plugin that raises is named in the log with hook and
topic, counted, and does not keep the others from being called.  A call that takes more than 100 ms is
named with its stack, for all other work of the broker waits meanwhile.  Hooks marked *may wait* may be
``async def`` (trio) and are cancelled after ``pykbroker.plugin.timeout.ms``; no other may be.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from pykbroker.components import (
        Component,
        ConfigPolicy,
        ExchangeType,
        Interceptor,
        Partitioner,
        RetryPolicy,
        Service,
        TopicPolicy,
        Validator,
    )
    from pykbroker.events import (
        BrokerStarted,
        BrokerStopping,
        ConnectionChanged,
        GroupChanged,
        NackSkipped,
        RecordDeadLettered,
        RecordReplayed,
        RecordRetried,
        RecordsAppended,
        RecordUnroutable,
        TopicChanged,
    )

PROJECT = "pykbroker"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's function as the implementation of the hook of its name."""


# Registering hooks: called once each, at start, before anything is opened


@hookspec
def pykbroker_register_partitioners() -> Iterable[Component[Partitioner]] | None:
    """Offer ways of choosing a partition, for topics with ``pykbroker.partitioner``.

    When: once, at start, and by commands that evaluate partitioners.
    Returns: components whose factory makes a :class:`~pykbroker.components.Partitioner`; None or
    nothing: none.
    The factory is called once per topic that names the component, and again when its settings change.
    May wait: no.
    When it raises: its components are missing.  A topic that names one stays readable, and Produce
    answers POLICY_VIOLATION with the name.
    """


@hookspec
def pykbroker_register_exchange_types() -> Iterable[Component[ExchangeType]] | None:
    """Offer ways of routing, for topics with ``pykbroker.exchange.type``.

    When: once, at start, and by commands that evaluate bindings.
    Returns: components whose factory makes an :class:`~pykbroker.components.ExchangeType`; None or
    nothing: none.
    The factory is called once per exchange of that type.
    May wait: no.
    When it raises: its components are missing.  An exchange of that type stays readable, and Produce
    answers POLICY_VIOLATION with the name.
    """


@hookspec
def pykbroker_register_validators() -> Iterable[Component[Validator]] | None:
    """Offer checks of what producers send, for topics that name them in ``pykbroker.validators``.

    When: once, at start.
    Returns: components whose factory makes a :class:`~pykbroker.components.Validator`; None or
    nothing: none.
    The factory is called once per topic that names the component, and again when its settings change.
    May wait: no.
    When it raises: its components are missing.  A topic that names one stays readable, and Produce
    answers POLICY_VIOLATION with the name.
    """


@hookspec
def pykbroker_register_interceptors() -> Iterable[Component[Interceptor]] | None:
    """Offer changes to what producers send, for topics that name them in ``pykbroker.interceptors``.

    When: once, at start.
    Returns: components whose factory makes an :class:`~pykbroker.components.Interceptor`; None or
    nothing: none.
    The factory is called once per topic that names the component, and again when its settings change.
    May wait: no.
    When it raises: its components are missing.  A topic that names one stays readable, and Produce
    answers POLICY_VIOLATION with the name.
    """


@hookspec
def pykbroker_register_retry_policies() -> Iterable[Component[RetryPolicy]] | None:
    """Offer ways of dealing with records that a consumer group cannot process, for topics, groups and
    brokers with ``pykbroker.retry.policy``.

    When: once, at start.
    Returns: components whose factory makes a :class:`~pykbroker.components.RetryPolicy`; None or
    nothing: none.
    The factory is called once per topic and group, when a record of theirs first fails, and again when
    its settings change.
    May wait: no.
    When it raises: its components are missing.  Where a policy is missing or cannot be made, records
    are treated as by the policy ``fixed``.
    """


@hookspec
def pykbroker_register_topic_policies() -> Iterable[Component[TopicPolicy]] | None:
    """Offer rules for the making of topics; all that are registered apply to every new topic.

    When: once, at start.
    Returns: components whose factory makes a :class:`~pykbroker.components.TopicPolicy`; None or
    nothing: none.
    The factory is called once, when the policy is first asked, and again when its settings change.
    May wait: no.
    When it raises: no topic can be made (POLICY_VIOLATION with the plugin's name): a rule that cannot
    be asked has not agreed.
    """


@hookspec
def pykbroker_register_config_policies() -> Iterable[Component[ConfigPolicy]] | None:
    """Offer rules for the altering of settings; all that are registered apply to every alteration.

    When: once, at start.
    Returns: components whose factory makes a :class:`~pykbroker.components.ConfigPolicy`; None or
    nothing: none.
    The factory is called once, when the policy is first asked, and again when its settings change.
    May wait: no.
    When it raises: nothing can be altered (POLICY_VIOLATION with the plugin's name): a rule that cannot
    be asked has not agreed.
    """


@hookspec
def pykbroker_register_services() -> Iterable[Component[Service]] | None:
    """Offer background tasks; all that are registered run while the broker does.

    When: once, at start.
    Returns: components whose factory makes a :class:`~pykbroker.components.Service`; None or nothing:
    none.
    The factory is called once, when the broker listens; then ``run(ctx)`` is awaited on its trio loop.
    May wait: no (the service itself may, and should).
    When it raises: its services do not run.
    """


@hookspec
def pykbroker_register_commands() -> Iterable[Component[click.Command]] | None:
    """Offer commands for the ``pykbroker`` command line.

    When: once per run of a command line that lists its commands, or is given one that pykbroker does
    not have.
    Returns: components whose factory makes a :class:`click.Command`, called as ``pykbroker <name>``;
    None or nothing: none.  A name of pykbroker's own is refused.
    May wait: no.
    When it raises: its commands are missing; a warning says why.
    """


# Event hooks


@hookspec
def pykbroker_started(event: BrokerStarted) -> Awaitable[None] | None:
    """The broker listens.

    When: once per start, when clients can connect.
    ``event``: :class:`~pykbroker.events.BrokerStarted`.
    Returns: nothing.
    May wait: yes; the broker serves meanwhile.
    When it raises: logged and counted; the broker goes on.
    """


@hookspec
def pykbroker_topic_changed(event: TopicChanged) -> None:
    """A topic was created, deleted, has more partitions or other settings.

    When: once per change and topic, after it is durable, internal topics included.
    ``event``: :class:`~pykbroker.events.TopicChanged`.
    Returns: nothing.
    May wait: no.
    When it raises: logged and counted; the change stands.
    """


@hookspec
def pykbroker_connection_changed(event: ConnectionChanged) -> None:
    """A client connected, or its connection has ended.

    When: twice per connection.
    ``event``: :class:`~pykbroker.events.ConnectionChanged`.
    Returns: nothing; a connection cannot be refused here.
    May wait: no.
    When it raises: logged and counted; the connection goes on.
    """


@hookspec
def pykbroker_records_appended(event: RecordsAppended) -> None:
    """A batch was appended to a partition: a client's, or copies that an exchange made.

    When: once per batch, after the append and before the acknowledgement; not for duplicates, not for
    internal topics.  What is produced to a topic with a partitioner counts where it ends up, a moment
    later.  This is the path of every produce: be quick.
    ``event``: :class:`~pykbroker.events.RecordsAppended`; the records themselves are not in it.
    Returns: nothing.
    May wait: no.
    When it raises: logged and counted; the batch stays, and is acknowledged.
    """


@hookspec
def pykbroker_group_changed(event: GroupChanged) -> None:
    """A consumer group went from one state to another.

    When: once per transition, after it; not for what is replayed at start.
    ``event``: :class:`~pykbroker.events.GroupChanged`.
    Returns: nothing.
    May wait: no.
    When it raises: logged and counted; the group goes on.
    """


@hookspec
def pykbroker_record_unroutable(event: RecordUnroutable) -> None:
    """A record reached an exchange where nothing matched.

    When: once per such record, when it is dropped, or refused at the door.
    ``event``: :class:`~pykbroker.events.RecordUnroutable`.
    Returns: nothing.
    May wait: no.
    When it raises: logged and counted; the record is dropped or refused all the same.
    """


@hookspec
def pykbroker_record_retried(event: RecordRetried) -> None:
    """A record that a consumer group could not process is going to return in the retry topic.

    When: once per failure, when the decision is stored and so before the record is readable again; after
    a crash the last few may be told twice.
    ``event``: :class:`~pykbroker.events.RecordRetried`.
    Returns: nothing.
    May wait: no.
    When it raises: logged and counted; the decision stands.
    """


@hookspec
def pykbroker_record_dead_lettered(event: RecordDeadLettered) -> None:
    """A record that a consumer group could not process has become a dead letter, or was discarded.

    When: once per such record, when the decision is stored; after a crash the last few may be told
    twice.
    ``event``: :class:`~pykbroker.events.RecordDeadLettered`.
    Returns: nothing.
    May wait: no.
    When it raises: logged and counted; the decision stands.
    """


@hookspec
def pykbroker_record_replayed(event: RecordReplayed) -> None:
    """A dead letter is going back to its topic, or to another one.

    When: once per letter, when its replay is stored; after a crash the last few may be told twice.
    ``event``: :class:`~pykbroker.events.RecordReplayed`.
    Returns: nothing.
    May wait: no.
    When it raises: logged and counted; the letter is replayed all the same.
    """


@hookspec
def pykbroker_nack_skipped(event: NackSkipped) -> None:
    """A consumer group nacked offsets that no longer exist.

    When: once per commit that names such offsets, when it is executed; after a crash the last few may be
    told twice.
    ``event``: :class:`~pykbroker.events.NackSkipped`.
    Returns: nothing.
    May wait: no.
    When it raises: logged and counted; the rest of the nack is executed all the same.
    """


@hookspec
def pykbroker_stopping(event: BrokerStopping) -> Awaitable[None] | None:
    """The broker is about to stop.

    When: once, before connections are closed; services are cancelled after it.  Not after a crash.
    ``event``: :class:`~pykbroker.events.BrokerStopping`.
    Returns: nothing.
    May wait: yes, but a stop has two seconds in all: it is cancelled after half a second.
    When it raises: logged and counted; the stop goes on.
    """


MAY_WAIT = frozenset({"pykbroker_started", "pykbroker_stopping"})
"""Hooks that may be ``async def``."""
