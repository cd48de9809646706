"""AlterConfigs, versions 0 to 2: replace all settings of topics, brokers or groups.

What is not named goes back to its default; IncrementalAlterConfigs is the API without that trap.
The versions differ only in how they are encoded.
"""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext, api
from pykbroker.catalog.alter import Alteration, Operation, Step, alter
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)


def failed(ctx: RequestContext, request: AlterConfigsRequest, code: ErrorCode) -> AlterConfigsResponse:
    """Every resource asked for carries ``code``."""
    return AlterConfigsResponse(responses=[_answer(each, KafkaError(code)) for each in request.resources])


@api(AlterConfigsRequest, AlterConfigsResponse, failed=failed)
async def handle(ctx: RequestContext, request: AlterConfigsRequest) -> AlterConfigsResponse:
    wanted = [
        Alteration(
            resource_type=each.resource_type,
            name=each.resource_name,
            steps=[Step(config.name, Operation.SET, config.value) for config in each.configs],
            replace=True,
        )
        for each in request.resources
    ]
    services = ctx.services
    results = await alter(
        services.catalog, wanted, validate_only=request.validate_only, policies=services.policies
    )
    answers = [_answer(each, error) for each, error in zip(request.resources, results, strict=True)]
    return AlterConfigsResponse(responses=answers)


def _answer(resource: AlterConfigsResource, error: KafkaError | None) -> AlterConfigsResourceResponse:
    return AlterConfigsResourceResponse(
        error_code=ErrorCode.NONE if error is None else error.code,
        error_message=None if error is None else str(error),
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )
