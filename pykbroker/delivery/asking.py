"""Asking retry policies: built once per topic, group and set of settings, and kept from doing harm."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

from pykbroker.catalog import names
from pykbroker.catalog.loops import way_back
from pykbroker.catalog.retrying import NO_POLICY, RoleKind, role_of
from pykbroker.components import RETRY_POLICY, DeadLetter, Discard, Retry, RetryContext, RetryDecision
from pykbroker.delivery.headers import DLQ_PREFIX
from pykbroker.errors import KafkaError
from pykbroker.plugins import ComponentFault, ComponentUnavailable, Plugins

if TYPE_CHECKING:
    from pykbroker.catalog.image import Image
    from pykbroker.catalog.retry_rules import RetryRules
    from pykbroker.catalog.retrying import RetrySettings, Role
    from pykbroker.delivery.deciding import Ask

log = logging.getLogger(__name__)

BROKERS_OWN: Final = ("pykbroker-", DLQ_PREFIX)
"""Headers that begin like this are not for policies."""
REPEAT_S: Final = 10.0
"""Time between two lines of the log about one group's records for which there is no policy, or that would
come back for ever."""
NAMED: Final = 100
"""Topics of which it is remembered that policies sent dead letters of one topic there."""


class Policies:
    """The retry policies of one broker.  ``image()`` is the catalog's current image, ``rules()`` what it says
    about failures (None: nobody looks whether dead letters come back by themselves)."""

    def __init__(
        self,
        plugins: Plugins,
        image: Callable[[], Image],
        rules: Callable[[], RetryRules] | None = None,
    ) -> None:
        self._plugins = plugins
        self._image = image
        self._rules = rules
        self._told: dict[Role, float] = {}
        self._named: dict[str, set[str]] = {}

    def ask(self, role: Role, settings: RetrySettings) -> Ask:
        """What asks the policy of ``role`` under ``settings``, for
        :func:`~pykbroker.delivery.deciding.decide`.  Cheap enough to be called for each batch.

        It answers None, after the log has named policy and topic, where the policy is missing, raises or
        answers nonsense.  The policy ``none`` answers DeadLetter(): what has arrived although nothing
        retries it (any more) is kept.
        """
        name = settings.policy
        if name == NO_POLICY:
            return lambda ctx: self._without(role)
        guard = self._plugins.guard(RETRY_POLICY, name, role.origin)
        try:
            policy = self._plugins.build(
                RETRY_POLICY, name, topic=role.origin, group=role.group, overrides=settings.overrides
            )
        except ComponentUnavailable as error:
            why = error.message

            def unavailable(ctx: RetryContext) -> None:
                guard.fault(f"{why}; retried as by 'fixed' (group={role.group})", ctx)

            return unavailable

        def asked(ctx: RetryContext) -> RetryDecision | None:
            try:
                answer, wrong = guard.call(lambda ctx: _looked_at(policy.decide(ctx)), ctx)
            except ComponentFault:
                return None
            to = answer.topic if wrong is None and isinstance(answer, DeadLetter) else None
            if to is not None and self._anew(to, role, settings):
                wrong = f"it answered DeadLetter to {to}, where the record would begin anew"
            if wrong is not None:
                guard.fault(f"{wrong} (group={role.group})", ctx)
                return None
            if to is not None and isinstance(answer, DeadLetter) and self._comes_back(to, role):
                return DeadLetter(None, answer.headers)
            return answer

        return asked

    def _comes_back(self, to: str, role: Role) -> bool:
        """Whether dead letters in ``to`` would fail for ever: policies may send them round in a circle.

        What policies have named is remembered, for no setting says it.
        """
        if self._rules is None:
            return False
        rules = self._rules()

        def named(name: str) -> Collection[str]:
            return self._named.get(name, ()) if rules.eligible(name) else ()

        way = way_back(rules, role.origin, to, named)
        if way is None:
            known = self._named.setdefault(role.origin, set())
            if len(known) < NAMED:
                known.add(to)
            return False
        if self._is_news(role):
            log.warning(
                "a policy names a dead-letter topic from where letters would come back for ever, they go to "
                "the usual one: topic=%s group=%s: %s", role.origin, role.group, " > ".join(way),
            )  # fmt: skip
        return True

    def _is_news(self, role: Role) -> bool:
        last, now = self._told.get(role), monotonic()
        if last is not None and now - last < REPEAT_S:
            return False
        self._told[role] = now
        return True

    def _without(self, role: Role) -> RetryDecision:
        if self._is_news(role):
            log.warning(
                "a failed record becomes a dead letter: nothing is retried there (any more): "
                "topic=%s group=%s", role.origin, role.group,
            )  # fmt: skip
        return DeadLetter()

    def _anew(self, topic: str, role: Role, settings: RetrySettings) -> bool:
        """Whether a dead letter in ``topic`` would be a failed record again, without an end."""
        known = self._image().topics.get(topic)
        its_role = None if known is None else role_of(known)
        return topic in (role.origin, settings.retry_topic) or (
            its_role is not None and its_role.kind is RoleKind.RETRY
        )


def nonsense(answer: object) -> str | None:
    """What is wrong with a policy's answer, if anything."""
    match answer:
        case Discard():
            return None
        case Retry():
            delay: object = answer.delay_ms  # as it came: who wrote it may not use a type checker
            if not isinstance(delay, int) or isinstance(delay, bool) or delay < 0:
                return f"it answered Retry({delay!r:.100}), which is no number of milliseconds"
            return None
        case DeadLetter():
            topic: object = answer.topic
            if topic is not None and not _legal(topic):
                return f"it answered DeadLetter to {topic!r:.300}, which is no name of a topic"
            return _bad_headers(answer.headers)
    return f"it answered {answer!r:.100}, which is none of Retry, DeadLetter, Discard"


def listed(answer: object) -> RetryDecision:
    """The answer with what may be lazy in it made now, where failures are caught."""
    if isinstance(answer, DeadLetter):
        return DeadLetter(answer.topic, tuple(answer.headers))
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError("decide() must not be async")
    return answer  # type: ignore[return-value]  # looked at by who asked


def _looked_at(answer: object) -> tuple[RetryDecision, str | None]:
    """The answer, and what is wrong with it; nonsense may raise even where it is shown."""
    found = listed(answer)
    return found, nonsense(found)


def _legal(topic: object) -> bool:
    if not isinstance(topic, str):
        return False
    try:
        names.check(topic)
    except KafkaError:
        return False
    return not topic.startswith("__")


def _bad_headers(headers: Sequence[object]) -> str | None:
    for header in headers:
        match header:
            case (str(name), bytes() | None) if not name.startswith(BROKERS_OWN) and _encodes(name):
                continue
        return (
            f"it answered DeadLetter with {header!r:.100} among its headers: each must be a name (not one "
            "of the broker's own) and bytes or None"
        )
    return None


def _encodes(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
