"""InitProducerId (API key 22), versions 0 to 5.

3 the producer's id and epoch so far (KIP-360), 4 and 5 new error codes (KIP-588, KIP-890).  Without a
transactional id the answer always is a fresh id with epoch 0, also for a producer that names its old one.

Not here yet: transactions.  A transactional id is checked as Kafka does and then answered with
UNSUPPORTED_VERSION, which clients take as final; COORDINATOR_NOT_AVAILABLE would have them try again until
their timeout and then report a connection problem.
"""

from __future__ import annotations

import logging

from pykbroker.apis._registry import RequestContext, api
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

log = logging.getLogger(__name__)


def failed(ctx: RequestContext, request: InitProducerIdRequest, code: ErrorCode) -> InitProducerIdResponse:
    """The error, and no id."""
    return InitProducerIdResponse(error_code=code, producer_id=-1, producer_epoch=-1)


@api(InitProducerIdRequest, InitProducerIdResponse, failed=failed)
async def handle(ctx: RequestContext, request: InitProducerIdRequest) -> InitProducerIdResponse:
    """Hand out a producer id."""
    code = check(ctx, request)
    if code != ErrorCode.NONE:
        return failed(ctx, request, code)
    try:
        producer_id = await ctx.services.producer_ids.next_id()
    except KafkaError as error:
        return failed(ctx, request, error.code)
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)


def check(ctx: RequestContext, request: InitProducerIdRequest) -> ErrorCode:
    """What is wrong with the request."""
    if (request.producer_id == -1) != (request.producer_epoch == -1):
        return ErrorCode.INVALID_REQUEST
    if request.transactional_id is None:
        return ErrorCode.NONE
    if request.transactional_id == "":
        return ErrorCode.INVALID_REQUEST
    if not 0 < request.transaction_timeout_ms <= ctx.services.config.transaction_max_timeout_ms:
        return ErrorCode.INVALID_TRANSACTION_TIMEOUT
    log.warning(
        "transactions are not supported yet: client=%s id=%s", ctx.client_id, request.transactional_id
    )
    return ErrorCode.UNSUPPORTED_VERSION
