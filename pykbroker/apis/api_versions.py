"""ApiVersions (key 18), versions 0 to 4: what this broker serves.

- The answer is computed from the registered APIs.  Produce is announced from version 0 although 3 is the
  lowest that is served, as Kafka does (apache/kafka#18727): librdkafka turns compression off otherwise.
- Version 3 (KIP-511) carries the client's software name and version; a bad one is INVALID_REQUEST.
- A version above 4 is answered in version 0 with UNSUPPORTED_VERSION and one row, that of this API.
- Features (version 3, KIP-584): none is announced.  Above all no transaction.version: with it clients
  would use the second transaction protocol (KIP-890).
"""

from __future__ import annotations

import re

from pykbroker.apis._registry import RequestContext, api
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse

KEY = ApiVersionsRequest.message_key

SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")
"""What Kafka takes as a software's name or version."""


def failed(ctx: RequestContext, request: ApiVersionsRequest, code: ErrorCode) -> ApiVersionsResponse:
    """Only the code; for an unsupported version also the range to choose from."""
    rows = [_row(ctx, KEY)] if code is ErrorCode.UNSUPPORTED_VERSION else []
    return ApiVersionsResponse(error_code=code, api_keys=rows)


@api(ApiVersionsRequest, ApiVersionsResponse, failed=failed)
def handle(ctx: RequestContext, request: ApiVersionsRequest) -> ApiVersionsResponse:
    """List the served APIs with their versions."""
    if ctx.version >= 3 and not (
        SOFTWARE.fullmatch(request.client_software_name)
        and SOFTWARE.fullmatch(request.client_software_version)
    ):
        return failed(ctx, request, ErrorCode.INVALID_REQUEST)
    return ApiVersionsResponse(api_keys=[_row(ctx, key) for key in ctx.apis])


def _row(ctx: RequestContext, key: int) -> ApiVersion:
    entry = ctx.apis[key]
    return ApiVersion(api_key=key, min_version=entry.announced_min, max_version=entry.versions[1])
