"""Decisions about exchanges: what may be bound, what a change of bindings is in the catalog.

Bindings and alternate are settings of the topic for clients, and an object of their own in the catalog
(:mod:`pykbroker.catalog.exchange`); ``pykbroker.exchange.bindings`` is therefore in no topic's
``overrides``, and :func:`described_overrides` puts it there for those who look.  Whatever is refused
here is INVALID_CONFIG with a sentence, but deleting what is bound: POLICY_VIOLATION.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pykbroker.catalog import bindings as text
from pykbroker.catalog.changes import (
    MAX_OBJECT_BYTES,
    Change,
    ForgetExchange,
    ObjectTooLarge,
    SetExchange,
    encode_object,
)
from pykbroker.catalog.exchange import Boundaries, Exchange
from pykbroker.catalog.exchange_types import ExchangeTypes, NoExchangeTypes
from pykbroker.catalog.forms import exchange_fields
from pykbroker.catalog.image import Image, Topic
from pykbroker.components import Binding
from pykbroker.errors import ErrorCode, KafkaError

TYPE = "pykbroker.exchange.type"
BINDINGS = "pykbroker.exchange.bindings"
ALTERNATE = "pykbroker.exchange.alternate"
PARTITIONER = "pykbroker.partitioner"

FIXED = (TYPE, PARTITIONER)
"""Settings that decide where records go from a topic's first record on: not altered later."""

_NEVER = 2**63 - 1


def _no_boundaries() -> Mapping[bytes, Sequence[int]]:
    return {}


def _all_passed(topic_id: bytes, partition: int) -> int:
    return _NEVER


@dataclass(slots=True, kw_only=True)
class ExchangeRules:
    """What decides about exchanges and is not in the catalog; the broker fills it in.

    ``boundaries()``: the log end offsets by partition of every exchange's log (by topic id), now; what
    is appended from here on is routed by the new bindings.  ``passed(topic id, partition)``: the offset
    below which a forwarder needs no bindings any more.  Both must not wait.
    """

    types: ExchangeTypes = field(default_factory=NoExchangeTypes)
    boundaries: Callable[[], Mapping[bytes, Sequence[int]]] = _no_boundaries
    passed: Callable[[bytes, int], int] = _all_passed

    def creation(
        self, image: Image, name: str, overrides: Mapping[str, str]
    ) -> tuple[dict[str, str], list[Change]]:
        """The settings that the new topic keeps as its own, and what else makes it an exchange."""
        own = {key: value for key, value in overrides.items() if key != BINDINGS}
        kind, given = own.get(TYPE, "").strip(), overrides.get(BINDINGS, "")
        if not kind:
            for key in (BINDINGS, ALTERNATE):
                if overrides.get(key, "").strip():
                    raise _refused(key, f"{name} is not an exchange: set {TYPE} too")
            return own, []
        if kind not in self.types.names():
            known = ", ".join(sorted(self.types.names())) or "none"
            raise _refused(TYPE, f"there is no exchange type {kind!r}; there are: {known}")
        _check_exchange(own)
        if text.is_count(given):
            raise _refused(BINDINGS, f"{given} stands for bindings that are there already")
        known_exchange = image.exchanges.get(name)
        change = SetExchange(
            name=name,
            version=0 if known_exchange is None else known_exchange.version,
            kind=kind,
            bind=_parsed(given),
            replace=True,
            alternate=own.get(ALTERNATE, "").strip() or None,
            boundaries=self._boundaries(image, name),
            keep=self._keep(image, known_exchange),
        )
        self._check(image, name, change, change.bind, own)
        return own, [change, *self._swept(image, name)]

    def alteration(
        self, image: Image, topic: Topic, overrides: Mapping[str, str], step: BindingStep | None
    ) -> list[Change]:
        """What the new settings and ``step`` mean for the topic as an exchange: often nothing.

        ``overrides`` are all its settings after the alteration.
        """
        exchange = image.exchange(topic.name)
        alternate = overrides.get(ALTERNATE, "").strip() or None
        if exchange is None:
            for key in (BINDINGS, ALTERNATE):
                if alternate if key == ALTERNATE else step is not None and step.value.strip():
                    raise _refused(key, f"{topic.name} is not an exchange: {TYPE} is set at creation")
            return []
        _check_exchange(overrides)
        bind, unbind, replace = _stepped(exchange, step)
        if not bind and not unbind and not replace and alternate == exchange.alternate:
            return []
        change = SetExchange(
            name=topic.name,
            version=exchange.version,
            kind=exchange.kind,
            bind=bind,
            unbind=unbind,
            replace=replace,
            alternate=alternate,
            boundaries=self._boundaries(image, topic.name),
            keep=self._keep(image, exchange),
        )
        self._check(image, topic.name, change, bind, overrides)
        return [change, *self._swept(image, topic.name)]

    def deletion(self, image: Image, topic: Topic) -> list[Change]:
        """What goes before the topic: nothing, if it is no exchange.

        Raises POLICY_VIOLATION when something is bound to it.
        """
        for name, other in image.exchanges.items():
            if name != topic.name and topic.name in other.current.targets:
                alternate = topic.name == other.alternate
                what = f"is the alternate of exchange {name}" if alternate else f"is bound to exchange {name}"
                raise KafkaError(ErrorCode.POLICY_VIOLATION, f"{topic.name} {what}; unbind it first")
        exchange = image.exchange(topic.name)
        if exchange is None:
            return []
        boundaries = {
            topic_id: offsets
            for topic_id, offsets in self._boundaries(image, topic.name).items()
            if topic_id != topic.topic_id and not self._is_passed(topic_id, offsets)
        }
        keep = self._keep(image, exchange)
        end = SetExchange(
            name=topic.name, version=exchange.version, kind=None, boundaries=boundaries, keep=keep
        )
        changes: list[Change] = [end]
        if not boundaries:
            changes.append(ForgetExchange(name=topic.name, version=exchange.version + 1))
        return [*changes, *self._swept(image, topic.name)]

    def _check(
        self, image: Image, name: str, change: SetExchange, new: Sequence[Binding], own: Mapping[str, str]
    ) -> None:
        """Raise INVALID_CONFIG unless the exchange may become what ``change`` makes of it."""
        assert change.kind is not None
        for binding in new:
            target = image.topics.get(binding.to)
            if target is None and binding.to != name:
                raise _refused(BINDINGS, f"there is no topic or exchange {binding.to!r}")
            if target is not None and target.internal:
                raise _refused(BINDINGS, f"{binding.to} belongs to the broker and cannot be bound")
        if change.alternate not in (None, name) and image.exchange(change.alternate or "") is None:
            hint = "an exchange of type fanout that is bound to the topic can be"
            why = f"{change.alternate!r} is not an exchange"
            raise _refused(ALTERNATE, f"{why}; {hint}" if change.alternate in image.topics else why)
        if new:  # a type that is missing does not keep anybody from unbinding
            try:
                self.types.check(change.kind, name, own, new)
            except ValueError as error:
                raise _refused(BINDINGS, str(error)) from None
        after = change.applied_to(image.exchanges.get(name))
        try:
            encode_object("exchange", exchange_fields(name, after))
        except ObjectTooLarge as error:
            raise _refused(
                BINDINGS, f"{error}; {MAX_OBJECT_BYTES} hold all bindings of one exchange"
            ) from None

    def _boundaries(self, image: Image, name: str) -> Boundaries:
        """Where the logs end from which a record can get to ``name``."""
        ends = self.boundaries()
        ids = (image.topics[each].topic_id for each in reaching(image, name) if each in image.topics)
        return {topic_id: tuple(ends[topic_id]) for topic_id in ids if topic_id in ends}

    def _keep(self, image: Image, exchange: Exchange | None) -> int:
        """The number of the oldest version that a forwarder may still ask for."""
        if exchange is None:
            return 0
        for version in reversed(exchange.versions):
            alive = {i: offsets for i, offsets in version.boundaries.items() if i in image.names_by_id}
            if all(self._is_passed(topic_id, offsets) for topic_id, offsets in alive.items()):
                return version.number
        return 0

    def _is_passed(self, topic_id: bytes, offsets: Sequence[int]) -> bool:
        return all(self.passed(topic_id, partition) >= offset for partition, offset in enumerate(offsets))

    def _swept(self, image: Image, name: str) -> list[Change]:
        """The ends of other deleted exchanges that nothing needs any more."""
        return [
            ForgetExchange(name=each.name, version=each.version)
            for each in image.exchanges.values()
            if each.kind is None and each.name != name and self._keep(image, each) == each.version
        ]


@dataclass(frozen=True, slots=True)
class BindingStep:
    """What to do to the bindings: ``how`` is "set", "bind" or "unbind", ``value`` JSON."""

    how: str
    value: str


def _stepped(
    exchange: Exchange, step: BindingStep | None
) -> tuple[tuple[Binding, ...], tuple[Binding, ...], bool]:
    """Bindings to add, to take away, and whether to replace all; nothing where nothing changes."""
    if step is None or text.is_count(step.value):
        if step is not None and step.how != "set":
            raise _refused(BINDINGS, f"{step.value} is a number of bindings; name those to {step.how}")
        return (), (), False
    given, now = _parsed(step.value), frozenset(exchange.bindings)
    match step.how:
        case "set":
            return (given, (), True) if frozenset(given) != now else ((), (), False)
        case "bind":
            return tuple(binding for binding in given if binding not in now), (), False
        case _:
            return (), tuple(binding for binding in given if binding in now), False


def _parsed(value: str) -> tuple[Binding, ...]:
    try:
        return text.parse(value)
    except ValueError as error:
        raise _refused(BINDINGS, str(error)) from None


def _check_exchange(own: Mapping[str, str]) -> None:
    """Raise INVALID_CONFIG for settings that an exchange cannot have."""
    if own.get(PARTITIONER, "").strip():
        raise _refused(PARTITIONER, "an exchange has none; give one to the topics that it is bound to")
    if "compact" in own.get("cleanup.policy", ""):
        raise _refused(
            "cleanup.policy", "an exchange cannot be compacted: records still to be routed would go"
        )


def reaching(image: Image, name: str) -> set[str]:
    """The exchanges from which a record can get to the exchange ``name``, itself included, by what is in
    force or still in somebody's history."""
    from_whom: dict[str, set[str]] = {}
    for exchange in image.exchanges.values():
        for target in frozenset().union(*(version.targets for version in exchange.versions)):
            from_whom.setdefault(target, set()).add(exchange.name)
    found, todo = {name}, [name]
    while todo:
        more = from_whom.get(todo.pop(), set()) - found
        found |= more
        todo += more
    return found


def reached(image: Image, name: str) -> set[str]:
    """All topics and exchanges to which a record of the exchange ``name`` may get, by what is in force;
    none where that is no exchange."""
    found, todo = set[str](), [name]
    while todo:
        exchange = image.exchange(todo.pop())
        if exchange is not None and exchange.kind is not None:
            more = exchange.current.targets - found
            found |= more
            todo += more
    return found


def described_overrides(image: Image, topic: Topic) -> Mapping[str, str]:
    """The topic's own settings as clients are shown them: with its bindings, if it is an exchange."""
    exchange = image.exchange(topic.name)
    if exchange is None or not exchange.bindings:
        return topic.overrides
    return {**topic.overrides, BINDINGS: text.described(exchange.bindings)}


def _refused(setting: str, why: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_CONFIG, f"{setting}: {why}")
