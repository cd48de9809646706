"""IncrementalAlterConfigs, versions 0 and 1: set, delete, append to, subtract from single settings.

The versions differ only in how they are encoded (KIP-339).
"""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext, api
from pykbroker.catalog.alter import Alteration, Step, alter
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.incremental_alter_configs import (
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)


def failed(
    ctx: RequestContext, request: IncrementalAlterConfigsRequest, code: ErrorCode
) -> IncrementalAlterConfigsResponse:
    """Every resource asked for carries ``code``."""
    return IncrementalAlterConfigsResponse(
        responses=[_answer(each, KafkaError(code)) for each in request.resources]
    )


@api(IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, failed=failed)
async def handle(
    ctx: RequestContext, request: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse:
    wanted = [
        Alteration(
            resource_type=each.resource_type,
            name=each.resource_name,
            steps=[Step(config.name, config.config_operation, config.value) for config in each.configs],
        )
        for each in request.resources
    ]
    services = ctx.services
    results = await alter(
        services.catalog, wanted, validate_only=request.validate_only, policies=services.policies
    )
    answers = [_answer(each, error) for each, error in zip(request.resources, results, strict=True)]
    return IncrementalAlterConfigsResponse(responses=answers)


def _answer(resource: AlterConfigsResource, error: KafkaError | None) -> AlterConfigsResourceResponse:
    return AlterConfigsResourceResponse(
        error_code=ErrorCode.NONE if error is None else error.code,
        error_message=None if error is None else str(error),
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )
