"""InitProducerId (SEMANTICS, section 3)."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from pykbroker.apis.init_producer_id import handle
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from tests.partitions.kit import Bench, context


async def ask(bench: Bench, request: InitProducerIdRequest) -> InitProducerIdResponse:
    response = handle(context(bench, 22, 5), request)
    assert isinstance(response, Awaitable)
    answer = await response
    assert isinstance(answer, InitProducerIdResponse)
    return answer


async def test_always_a_fresh_id_with_epoch_0(bench: Bench) -> None:
    first = await ask(bench, InitProducerIdRequest(transactional_id=None))
    again = await ask(
        bench,
        InitProducerIdRequest(transactional_id=None, producer_id=first.producer_id, producer_epoch=0),
    )
    assert (first.error_code, first.producer_epoch, again.error_code, again.producer_epoch) == (0, 0, 0, 0)
    assert again.producer_id != first.producer_id


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (InitProducerIdRequest(transactional_id="", transaction_timeout_ms=1), ErrorCode.INVALID_REQUEST),
        (InitProducerIdRequest(transactional_id=None, producer_id=5), ErrorCode.INVALID_REQUEST),
        (InitProducerIdRequest(transactional_id=None, producer_epoch=5), ErrorCode.INVALID_REQUEST),
        (
            InitProducerIdRequest(transactional_id="x", transaction_timeout_ms=0),
            ErrorCode.INVALID_TRANSACTION_TIMEOUT,
        ),
        (
            InitProducerIdRequest(transactional_id="x", transaction_timeout_ms=900_001),
            ErrorCode.INVALID_TRANSACTION_TIMEOUT,
        ),
        (
            InitProducerIdRequest(transactional_id="x", transaction_timeout_ms=900_000),
            ErrorCode.UNSUPPORTED_VERSION,
        ),
    ],
)
async def test_refused(bench: Bench, request_: InitProducerIdRequest, code: ErrorCode) -> None:
    answer = await ask(bench, request_)
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (code, -1, -1)
