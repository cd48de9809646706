"""The kit for retry policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pykbroker.components import RETRY_POLICY, RetryContext, RetryDecision, RetryPolicy
from pykbroker.delivery.asking import listed, nonsense
from pykbroker.records.decode import Record
from pykbroker.testing.kits._making import GROUP, NOW_MS, TOPIC, KitFailure, Make, Values, call, make

RECORDS: Sequence[Record] = (
    Record(0, NOW_MS, b"key", b"value"),
    Record(0, 0, None, None),
    Record(0, NOW_MS, b"\xff", b"[" * 100_000, (("h", None), ("h", b"\xff"), ("", b""))),
)
LONG_MAX = 2**63 - 1


def retry_context(*, record: Record = RECORDS[0], **changes: object) -> RetryContext:
    """The first failure of ``record``, with ``changes`` to the fields of :class:`pykbroker.RetryContext`."""
    ctx = RetryContext(
        topic=TOPIC,
        partition=0,
        offset=7,
        group=GROUP,
        attempt=1,
        max_attempts=5,
        reason="",
        first_failure_ms=NOW_MS,
        last_failure_ms=NOW_MS,
        now_ms=NOW_MS,
        delay_ms=1000,
        max_delay_ms=60_000,
        load=lambda: record,
    )
    return replace(ctx, **changes)  # type: ignore[arg-type]  # whoever calls it knows the fields


def check_retry_policy(
    component: Make[RetryPolicy],
    *,
    settings: Values | None = None,
    decides: Sequence[tuple[RetryContext, RetryDecision]] = (),
) -> None:
    """Whatever failed and however often, ``decide`` gives a Retry, DeadLetter or Discard that a broker
    takes, and quickly.

    ``decides`` are failures (see :func:`retry_context`) and what it must say of each.
    """
    policy = make(RETRY_POLICY, component, settings)
    for attempt in (1, 2, 3, 6, 100, 2**31 - 1):
        for delay_ms, max_delay_ms in ((1000, 60_000), (0, 0), (5000, 10), (LONG_MAX, LONG_MAX)):
            for offset, reason, first_ms in (
                (7, "", NOW_MS - 5000),
                (None, "no stock \U0001f4a5", NOW_MS + 5000),
            ):
                ctx = retry_context(
                    attempt=attempt,
                    delay_ms=delay_ms,
                    max_delay_ms=max_delay_ms,
                    offset=offset,
                    reason=reason,
                    first_failure_ms=first_ms,
                )
                _decided(policy, ctx)
    for record in RECORDS:
        _decided(policy, retry_context(record=record, max_attempts=0))
    for ctx, expected in decides:
        answer = _decided(policy, ctx)
        if answer != listed(expected):
            raise KitFailure(f"decide() gave {answer!r:.300}, not {expected!r:.300}, for {ctx!r}")


def _decided(policy: RetryPolicy, ctx: RetryContext) -> RetryDecision:
    answer = call("decide()", policy.decide, ctx)
    try:
        answer = listed(answer)
    except TypeError as error:
        raise KitFailure(f"decide() gave {answer!r:.300}, whose headers are no list, for {ctx!r}") from error
    wrong = nonsense(answer)
    if wrong is not None:
        raise KitFailure(f"{wrong}; it was given {ctx!r}")
    return answer
