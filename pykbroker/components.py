"""What plugins register: components, their settings, and the contexts that their methods are given.

A component is a named factory.  It is registered once at start (see :mod:`pykbroker.hookspecs`); what
the factory makes is built once per topic and set of settings, and then called directly.  Contexts are
frozen and given as one argument, so that later versions can add fields.  All of these names are
imported from ``pykbroker``::

    from pykbroker import Component, PartitionContext, hookimpl

    class ByLength:
        def choose(self, ctx: PartitionContext) -> int:
            return (ctx.value_size or 0) % ctx.partitions

    @hookimpl
    def pykbroker_register_partitioners():
        return [Component("by-length", lambda build: ByLength())]

What a method may do: it is called on the broker's only thread, and everything else waits meanwhile.
It must not wait for anything, unless its description says that it may be ``async``.  A call that takes
more than 100 ms is named in the log with its stack.  What happens when it raises is said at each method;
no acknowledged record is lost by it.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from pykbroker.config.setting import Kind, Value

if TYPE_CHECKING:
    import click

    from pykbroker.records.batch import BatchHeader, Buffer
    from pykbroker.records.build import RecordData
    from pykbroker.records.decode import Record

T_co = TypeVar("T_co", covariant=True)

API = 1
"""The version of the component interfaces; each component declares the one it was written for."""

Headers = Sequence[tuple[str, bytes | None]]
"""A record's headers in order; names may repeat, None is Kafka's null."""

BROKER, TOPIC, GROUP = "broker", "topic", "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSetting:
    """One setting of a component, in full ``pykbroker.plugin.<component>.<key>``.

    ``key`` is lower case words with dots (``limit.bytes``).  ``scopes`` says where it may be given:
    ``"broker"`` (file, environment, ``--set``, altered at run time), ``"topic"``, ``"group"``; a topic's
    own value wins over the broker's.  ``minimum`` and ``maximum`` bound numbers, ``choices`` text.  A
    malformed value is refused where it is given: at start, at CreateTopics, at AlterConfigs.
    """

    key: str
    kind: Kind
    default: Value
    doc: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    scopes: frozenset[str] = frozenset({BROKER})


class Settings(Mapping[str, Value]):
    """The effective settings of one component, by key; typed accessors for what has a type."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> Value:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Settings({self._values!r})"

    def text(self, key: str) -> str:
        """The value of a STRING setting; "" where it is not set."""
        value = self._values[key]
        assert value is None or isinstance(value, str), f"{key} is no text"
        return value or ""

    def integer(self, key: str) -> int:
        """The value of an INT, SHORT or LONG setting."""
        value = self._values[key]
        assert isinstance(value, int), f"{key} is no integer"
        return value

    def number(self, key: str) -> float:
        """The value of any numeric setting."""
        value = self._values[key]
        assert isinstance(value, int | float), f"{key} is no number"
        return value

    def flag(self, key: str) -> bool:
        """The value of a BOOLEAN setting."""
        value = self._values[key]
        assert isinstance(value, bool), f"{key} is no boolean"
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """The value of a LIST setting."""
        value = self._values[key]
        assert value is None or isinstance(value, tuple), f"{key} is no list"
        return value or ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildContext:
    """What a factory is given.  ``topic`` is what the object is made for, None where it is not for one
    topic.  ``time_ms()`` is the broker's clock (tests move it), ``random`` a generator of this object's
    own: use these two instead of ``time`` and ``random``.  ``group`` is the consumer group that a retry
    policy is made for, None for all other kinds."""

    component: str
    topic: str | None
    settings: Settings
    time_ms: Callable[[], int]
    random: random.Random
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Component(Generic[T_co]):
    """Something named that a plugin offers.

    ``name`` is what topic settings say (letters, digits, ``-``, ``_``), unique among the components of
    its kind.  ``factory(ctx)`` makes the object; when it raises, the topic that needs it stays readable
    and Produce answers POLICY_VIOLATION.  ``api`` is the interface version it was written for.
    """

    name: str
    factory: Callable[[BuildContext], T_co]
    settings: Sequence[PluginSetting] = field(default=(), kw_only=True)
    api: int = field(default=API, kw_only=True)
    doc: str = field(default="", kw_only=True)


# Partitioners


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionContext:
    """One record that needs a partition.

    ``partitions`` is their number, ``available`` the numbers of those that have a leader.
    ``named_partition`` is what the client chose, None where no client did.  ``value_size`` is in bytes,
    None for a tombstone.  ``timestamp_ms`` is the record's, ``now_ms`` the broker's.
    """

    topic: str
    partitions: int
    available: Sequence[int]
    key: bytes | None
    headers: Headers = ()
    value_size: int | None = None
    timestamp_ms: int = 0
    named_partition: int | None = None
    now_ms: int = 0


class Partitioner(Protocol):
    """Chooses a partition for each record that the broker itself places.

    An object may have an attribute ``key_only = True``: the answer depends on ``ctx.key`` and
    ``ctx.partitions`` alone.  Then it can also serve inside a client.
    """

    def choose(self, ctx: PartitionContext) -> int:
        """A number from 0 to ``ctx.partitions - 1``.  Called once per record; the answer is kept.

        Raising, or another answer, counts as a fault; the record then goes where the partitioner
        ``default`` would put it.
        """
        ...


# Exchange types


class Binding:
    """One rule of an exchange: what matches goes to the topic or exchange ``to``.

    What ``key`` and ``arguments`` mean is up to the exchange type.  Arguments are text, None means
    "present, whatever its value".  Immutable, hashable, equal by value.
    """

    __slots__ = ("_hash", "arguments", "key", "to")

    to: str
    key: str
    arguments: Mapping[str, str | None]
    _hash: int

    def __init__(self, to: str, key: str = "", arguments: Mapping[str, str | None] | None = None) -> None:
        put = object.__setattr__
        put(self, "to", to)
        put(self, "key", key)
        put(self, "arguments", MappingProxyType(dict(arguments or {})))
        put(self, "_hash", hash((to, key, frozenset(self.arguments.items()))))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Binding is immutable: {name}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Binding):
            return NotImplemented
        return (self.to, self.key, self.arguments) == (other.to, other.key, other.arguments)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[Binding], tuple[str, str, dict[str, str | None]]]:
        return Binding, (self.to, self.key, dict(self.arguments))

    def __repr__(self) -> str:
        more = f", arguments={dict(self.arguments)!r}" if self.arguments else ""
        return f"Binding(to={self.to!r}, key={self.key!r}{more})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingContext:
    """One record at an exchange.  ``routing_key`` is its header ``routing-key``, else its key as text."""

    exchange: str
    routing_key: str
    key: bytes | None = None
    headers: Headers = ()


class Matcher(Protocol):
    """The bindings of one exchange, made ready for matching.

    An object may have an attribute ``key_only = True``: the answer depends on ``ctx.routing_key``
    alone, and may be remembered by it.
    """

    def match(self, ctx: RoutingContext) -> Iterable[Binding]:
        """The bindings that match; duplicates do no harm.  Called once per record and exchange.

        Raising counts as a fault; this exchange then counts as one where nothing matches, so that its
        alternate exchange gets the record.
        """
        ...


class ExchangeType(Protocol):
    """A way of routing, named by ``pykbroker.exchange.type``."""

    def validate(self, binding: Binding) -> None:
        """Refuse a binding that makes no sense: raise ValueError with a sentence for the user.

        Called when bindings are set or added; INVALID_CONFIG carries the sentence.
        """
        ...

    def compile(self, bindings: Sequence[Binding]) -> Matcher:
        """Make ready what :meth:`validate` let pass.  Called once per change of the bindings."""
        ...


# Validators and interceptors


class BatchView:
    """A batch as a plugin sees it; records are decoded when first asked for, and once."""

    __slots__ = ("_records", "data", "header")

    def __init__(self, data: Buffer, header: BatchHeader) -> None:
        self.data = data
        self.header = header
        self._records: Sequence[Record] | None = None

    @property
    def records(self) -> Sequence[Record]:
        """The records; their offsets count from 0 where the batch has no place yet."""
        if self._records is None:
            from pykbroker.records.decode import iter_records  # a plugin that asks pays for it

            self._records = tuple(iter_records(self.data))
        return self._records


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationContext:
    """One batch at the door.  ``client_id`` is what the client calls itself, ``now_ms`` the broker's
    clock."""

    topic: str
    partition: int
    client_id: str | None
    batch: BatchView
    now_ms: int


@dataclass(frozen=True, slots=True)
class RecordError:
    """Why one record is refused; ``index`` is its place in the batch, from 0."""

    index: int
    message: str


class Validator(Protocol):
    """Lets batches in, or not; named by ``pykbroker.validators``."""

    def check(
        self, ctx: ValidationContext
    ) -> Iterable[RecordError] | Awaitable[Iterable[RecordError] | None] | None:
        """What is wrong with the batch; nothing, or None: it may come in.

        Called once per batch, before it gets offsets.  Any error refuses the whole batch with
        INVALID_RECORD and these messages.  Raising refuses it too, with UNKNOWN_SERVER_ERROR.
        May be ``async``; then it is cancelled after ``pykbroker.plugin.timeout.ms``, which is raising.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InterceptContext:
    """One batch on its way in.  ``records`` have their timestamps; earlier interceptors have been at
    them.  ``header`` is that of the batch as it came."""

    topic: str
    partition: int
    client_id: str | None
    records: Sequence[RecordData]
    header: BatchHeader
    now_ms: int


class Interceptor(Protocol):
    """Changes batches as they come in; named by ``pykbroker.interceptors``."""

    def intercept(
        self, ctx: InterceptContext
    ) -> Sequence[RecordData] | Awaitable[Sequence[RecordData] | None] | None:
        """The records to store in place of these, or None: as they are.

        Called once per batch, before the validators: what is checked is what is stored.  There must be
        as many as before, or sequences and offsets would no longer fit: another number counts as
        raising.  Raising refuses the batch with UNKNOWN_SERVER_ERROR, and nothing of it is stored.
        May be ``async``, as a validator's ``check``.
        """
        ...


# Retry policies


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryContext:
    """One failure of one record in one consumer group.

    ``topic`` is the topic that the record came from, also when it failed in the retry topic;
    ``partition`` and ``offset`` its place there.  A consumer that produces to the retry topic may not
    have said it: then ``offset`` is None, and ``partition`` that of the retry topic.  ``attempt`` counts
    the failures, this one included: 1 is the first.  ``reason`` is what the consumer said, "" for nothing.
    ``first_failure_ms`` and ``last_failure_ms`` are the broker's times of the first failure and of the
    one before this; for a first failure both are ``now_ms``.  ``max_attempts``, ``delay_ms`` and
    ``max_delay_ms`` are the settings ``pykbroker.retry.max.attempts``, ``.delay.ms``,
    ``.max.delay.ms``.
    """

    topic: str
    partition: int
    offset: int | None
    group: str
    attempt: int
    max_attempts: int
    reason: str
    first_failure_ms: int
    last_failure_ms: int
    now_ms: int
    delay_ms: int
    max_delay_ms: int
    load: Callable[[], Record] | None = field(default=None, repr=False, compare=False)
    """Where :attr:`record` comes from."""

    @property
    def record(self) -> Record:
        """The record with its key, value and headers, taken apart when asked for; its offset is that of
        a log of the broker's own, of no use here."""
        if self.load is None:
            raise LookupError("this context has been made without a record")
        return self.load()


@dataclass(frozen=True, slots=True)
class Retry:
    """Make the record readable in the retry topic after ``delay_ms``: a whole number, 0 or more.

    More than ``pykbroker.retry.max.delay.ms`` counts as that.  After ``pykbroker.retry.max.attempts``
    retries it counts as ``DeadLetter()``.
    """

    delay_ms: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Make the record a dead letter now.

    ``topic``: the topic or exchange that gets it; None: ``pykbroker.dead.letter.topic``.  ``headers``
    are added, and replace those of the same name; names of the broker's own are not for policies.
    """

    topic: str | None = None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop the record: no retry, no dead letter.  It is counted, and told by an event."""


RetryDecision = Retry | DeadLetter | Discard


class RetryPolicy(Protocol):
    """Says what becomes of a record that a consumer group could not process; named by
    ``pykbroker.retry.policy`` of a topic, a group or the broker."""

    def decide(self, ctx: RetryContext) -> RetryDecision:
        """One of the three.  Called once per failure, in the order in which they arrive, and again only
        where a crash came before the decision was stored.

        The decision is stored with the record; it stands whatever happens to policy and settings.
        Raising, or another answer, counts as a fault; the record is then treated as by the policy
        ``fixed``: retried after ``pykbroker.retry.delay.ms``, and a dead letter after
        ``pykbroker.retry.max.attempts`` retries.
        """
        ...


# Policies


class PolicyViolation(Exception):
    """Raised by a policy: the client gets POLICY_VIOLATION and this text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPolicyContext:
    """A topic that is about to be made, or (``created`` false) to get more partitions.

    ``settings`` are its own, as text.  ``automatic``: nobody asked for it, only for its metadata.
    """

    topic: str
    partitions: int
    replication_factor: int
    settings: Mapping[str, str]
    created: bool = True
    automatic: bool = False


class TopicPolicy(Protocol):
    """Has a say when topics are made."""

    def check(self, ctx: TopicPolicyContext) -> None:
        """Raise :class:`PolicyViolation` to refuse.  Called for validate-only requests too.

        Raising anything else refuses with UNKNOWN_SERVER_ERROR.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigPolicyContext:
    """Settings that are about to change.  ``resource`` is "topic", "broker" or "group", ``name`` its
    name ("" for all brokers).  ``before`` and ``after`` are all values of its own, as text."""

    resource: str
    name: str
    before: Mapping[str, str]
    after: Mapping[str, str]


class ConfigPolicy(Protocol):
    """Has a say when settings are altered."""

    def check(self, ctx: ConfigPolicyContext) -> None:
        """Raise :class:`PolicyViolation` to refuse.  Called for validate-only requests too.

        Raising anything else refuses with UNKNOWN_SERVER_ERROR.
        """
        ...


# Services and commands


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceContext:
    """The running broker as a background task sees it; it talks to ``bootstrap`` as any client does."""

    bootstrap: str
    listeners: Sequence[str]
    node_id: int
    cluster_id: str
    data_dir: Path
    settings: Settings
    time_ms: Callable[[], int]


class Service(Protocol):
    """A task that runs beside the broker, on its trio loop."""

    def run(self, ctx: ServiceContext) -> Awaitable[None]:
        """Run until cancelled, or return.  Called once, when the broker listens.

        At the stop of the broker it is cancelled first.  Raising ends the service, not the broker.
        """
        ...


@dataclass(frozen=True, slots=True)
class ComponentKind(Generic[T_co]):
    """A kind of component: what it is called, the hook that registers it, the methods it must have.

    ``setting`` is the setting that names such components, if one does; ``no_component`` are the names
    that it takes beside theirs.
    """

    name: str
    hook: str
    methods: tuple[str, ...]
    setting: str | None = None
    no_component: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name


PARTITIONER: ComponentKind[Partitioner] = ComponentKind(
    "partitioner", "pykbroker_register_partitioners", ("choose",), "pykbroker.partitioner"
)
EXCHANGE_TYPE: ComponentKind[ExchangeType] = ComponentKind(
    "exchange type", "pykbroker_register_exchange_types", ("validate", "compile"), "pykbroker.exchange.type"
)
VALIDATOR: ComponentKind[Validator] = ComponentKind(
    "validator", "pykbroker_register_validators", ("check",), "pykbroker.validators"
)
INTERCEPTOR: ComponentKind[Interceptor] = ComponentKind(
    "interceptor", "pykbroker_register_interceptors", ("intercept",), "pykbroker.interceptors"
)
RETRY_POLICY: ComponentKind[RetryPolicy] = ComponentKind(
    "retry policy",
    "pykbroker_register_retry_policies",
    ("decide",),
    "pykbroker.retry.policy",
    frozenset({"none"}),
)
TOPIC_POLICY: ComponentKind[TopicPolicy] = ComponentKind(
    "topic policy", "pykbroker_register_topic_policies", ("check",)
)
CONFIG_POLICY: ComponentKind[ConfigPolicy] = ComponentKind(
    "config policy", "pykbroker_register_config_policies", ("check",)
)
SERVICE: ComponentKind[Service] = ComponentKind("service", "pykbroker_register_services", ("run",))
COMMAND: ComponentKind[click.Command] = ComponentKind("command", "pykbroker_register_commands", ())

KINDS: tuple[ComponentKind[object], ...] = (
    PARTITIONER, EXCHANGE_TYPE, VALIDATOR, INTERCEPTOR, RETRY_POLICY, TOPIC_POLICY, CONFIG_POLICY,
    SERVICE, COMMAND,
)  # fmt: skip
"""All kinds, in the order of their registration."""
