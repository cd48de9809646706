"""Ways on which dead letters would come back by themselves, to fail for ever.

An exchange sends on what it gets; a topic whose failures are retried sends on what fails for good.  Where
that closes a circle, a record that nobody can process goes round it without an end.  It does not where dead
letters lie in a topic until a person replays them: such a topic has no failures of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet

from pykbroker.catalog.changes import Change, CreateTopic, SetExchange
from pykbroker.catalog.draft import Draft
from pykbroker.catalog.exchanges import ALTERNATE, BINDINGS
from pykbroker.catalog.image import Image
from pykbroker.catalog.retry_rules import RetryRules
from pykbroker.catalog.retrying import DEAD_LETTER_TOPIC, NO_POLICY, POLICY, RoleKind, role_of
from pykbroker.config import BrokerConfig
from pykbroker.errors import ErrorCode, KafkaError

Way = tuple[str, ...]
"""Topics and exchanges in the order in which a record gets to them."""


def _nothing_more(name: str) -> Collection[str]:
    return ()


def way_back(
    rules: RetryRules,
    origin: str,
    target: str,
    more: Callable[[str], Collection[str]] = _nothing_more,
) -> Way | None:
    """On which way dead letters of ``origin`` that go to ``target`` would fail again: back on ``origin``, or
    in a retry topic.  None: they come to rest.

    ``more`` says where else dead letters of a topic go than settings say.
    """
    before: dict[str, str] = {target: origin}
    todo = deque([target])
    while todo:
        name = todo.popleft()
        if name == origin or _is_retry_topic(rules.image, name):
            return _way(before, origin, name)
        for each in sorted({*_onwards(rules, name), *more(name)}):
            if each not in before:
                before[each] = name
                todo.append(each)
    return None


def _way(before: Mapping[str, str], origin: str, last: str) -> Way:
    way = [last]
    at = before[last]
    while at != origin:
        way.append(at)
        at = before[at]
    return (origin, *reversed(way))


def _is_retry_topic(image: Image, name: str) -> bool:
    topic = image.topics.get(name)
    role = None if topic is None else role_of(topic)
    return role is not None and role.kind is RoleKind.RETRY


def _onwards(rules: RetryRules, name: str) -> Collection[str]:
    """Where records in a topic or exchange get to with nobody's doing."""
    exchange = rules.image.exchange(name)
    if exchange is not None:
        return exchange.current.targets
    # Of what is not there nobody can know; what has a role, or gets dead letters, has no failures of its own.
    return rules.ways_of(name) if name in rules.image.topics else ()


def loops(rules: RetryRules) -> AbstractSet[tuple[str, str]]:
    """All that there are, by the origin of dead letters and the exchange to which they go; :func:`way_back`
    has the way.  Looks at each topic and exchange about once."""
    exchanges = {name for name in rules.image.exchanges if rules.image.exchange(name) is not None}
    going = [
        (origin, target)
        for origin, targets in (rules.ways_of_dead_letters.items() if exchanges else ())
        for target in targets & exchanges
    ]
    ways = _ways(rules, {target for _, target in going})
    circle = _circles(ways)
    retried = _leading_to(ways, {name for name in ways if _is_retry_topic(rules.image, name)})
    return {
        (origin, target)
        for origin, target in going
        if target in retried or circle[target] == circle.get(origin)
    }


def _ways(rules: RetryRules, begin: Collection[str]) -> dict[str, Collection[str]]:
    """What leads where, as far as it can be got to."""
    found: dict[str, Collection[str]] = {}
    todo = [*begin]
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = _onwards(rules, name)
            todo += found[name]
    return found


def _leading_to(ways: Mapping[str, Collection[str]], ends: Collection[str]) -> Collection[str]:
    """From where one of ``ends`` can be got to, themselves included."""
    backwards: dict[str, list[str]] = {}
    for name in ways if ends else ():
        for each in ways[name]:
            backwards.setdefault(each, []).append(name)
    found, todo = set(ends), [*ends]
    while todo:
        more = [each for each in backwards.get(todo.pop(), ()) if each not in found]
        found.update(more)
        todo += more
    return found


def _circles(ways: Mapping[str, Collection[str]]) -> Mapping[str, int]:
    """A number for each name: two have the same one where each leads to the other (strongly connected
    components, after Tarjan)."""
    found: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    for first in ways:
        if first in low:
            continue
        path = [(first, iter(ways[first]))]
        number = {first: len(low)}
        low[first] = len(low)
        stack.append(first)
        while path:
            name, rest = path[-1]
            for each in rest:
                if each not in low:
                    number[each] = low[each] = len(low)
                    stack.append(each)
                    path.append((each, iter(ways[each])))
                    break
                if each not in found:
                    low[name] = min(low[name], low[each])
            else:
                path.pop()
                if path:
                    above = path[-1][0]
                    low[above] = min(low[above], low[name])
                if low[name] == number[name]:
                    while stack[-1] != name:
                        found[stack.pop()] = number[name]
                    found[stack.pop()] = number[name]
    return found


def check_loops(
    image: Image,
    broker: BrokerConfig,
    changes: Sequence[Change],
    altered: Collection[str],
    broker_after: BrokerConfig | None = None,
) -> None:
    """Raise INVALID_CONFIG where ``changes`` close a loop; ``altered`` are the settings that they set.

    What was one before is in nobody's way.
    """
    # The one that is named first is at fault, where several are altered.
    blamed = [each for each in (BINDINGS, ALTERNATE, DEAD_LETTER_TOPIC, POLICY) if each in altered]
    if not blamed:
        return
    draft = Draft(image)
    for change in changes:
        draft.apply(change)
    rules = RetryRules(draft.view(), broker_after or broker)
    for origin, target in sorted(_new_loops(RetryRules(image, broker), rules, changes)):
        way = way_back(rules, origin, target) or (origin, target)
        help_ = DEAD_LETTER_TOPIC if blamed[0] != DEAD_LETTER_TOPIC else BINDINGS
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"{blamed[0]}: dead letters of {way[0]} would fail again, for ever: {' > '.join(way)}; "
            f"or alter {help_} on that way first",
        )


def _new_loops(
    before: RetryRules, after: RetryRules, changes: Sequence[Change]
) -> Collection[tuple[str, str]]:
    made = [each.name for each in changes if isinstance(each, CreateTopic)]
    if made and not any(isinstance(each, SetExchange) for each in changes):
        # Nothing leads to what is new: only its own dead letters can be on a new way.  Asked by itself,
        # because hundreds may be made at once.
        return {
            (origin, target)
            for origin in made
            for target in after.ways_of(origin)
            if after.image.exchange(target) is not None and way_back(after, origin, target) is not None
        }
    found = loops(after)
    return found - loops(before) if found else found


def altered_by(
    changes: Sequence[Change], before: Mapping[str, str], after: Mapping[str, str]
) -> Collection[str]:
    """The settings that these changes of a topic alter, as far as they may close a loop."""
    found = {key for key in (ALTERNATE, DEAD_LETTER_TOPIC, POLICY) if before.get(key) != after.get(key)}
    if any(isinstance(each, SetExchange) and each.kind is not None and each.bind for each in changes):
        found.add(BINDINGS)
    return found


def check_retried(rules: RetryRules, target: str, origin: str) -> None:
    """Raise INVALID_CONFIG where ``target``, that shall get dead letters, has a policy of its own: its
    failures would not be retried any more.  A default or a group's policy is not meant for that topic alone,
    and simply does not hold there."""
    topic = rules.image.topics.get(target)
    if topic is None or target == origin or not rules.eligible(target):
        return
    if topic.overrides.get(POLICY, NO_POLICY).strip() != NO_POLICY:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"{DEAD_LETTER_TOPIC}: dead letters cannot go to {target}, whose own failures are retried and "
            f"would not be any more: {POLICY} is set there",
        )


def check_has_failures(
    rules: RetryRules, name: str, after: Mapping[str, str], before: Mapping[str, str]
) -> None:
    """Raise INVALID_CONFIG where a topic that gets dead letters shall have a policy of its own."""
    policy = after.get(POLICY, NO_POLICY).strip()
    if policy == before.get(POLICY, NO_POLICY).strip() or policy == NO_POLICY:
        return
    if rules.is_dead_letter_target(name):
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"{POLICY}: {name} gets dead letters, which are not retried; replay them to another topic",
        )
