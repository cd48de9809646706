"""DeleteGroups (key 42), versions 0 to 2: groups without members, and their offsets.

- Version 2 is flexible.  Members: NON_EMPTY_GROUP; no such group: GROUP_ID_NOT_FOUND.
"""

from __future__ import annotations

from collections.abc import Sequence

from pykbroker.apis._registry import RequestContext, api
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.delete_groups import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)


def failed(ctx: RequestContext, request: DeleteGroupsRequest, code: ErrorCode) -> DeleteGroupsResponse:
    """``code`` for every group."""
    return _answer(request, [code] * len(request.groups_names))


@api(DeleteGroupsRequest, DeleteGroupsResponse, failed=failed)
async def handle(ctx: RequestContext, request: DeleteGroupsRequest) -> DeleteGroupsResponse:
    """Delete the groups."""
    deleted = await ctx.services.groups.delete(request.groups_names)
    return _answer(request, deleted.errors)


def _answer(request: DeleteGroupsRequest, errors: Sequence[ErrorCode]) -> DeleteGroupsResponse:
    return DeleteGroupsResponse(
        results=[
            DeletableGroupResult(group_id=group_id, error_code=error)
            for group_id, error in zip(request.groups_names, errors, strict=True)
        ]
    )
