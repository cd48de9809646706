"""ApiVersions: computed from what is registered."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from pykbroker.apis import api_versions
from pykbroker.apis._registry import RequestContext, Services, registered
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

APIS = {18: registered()[18], 12: replace(registered()[18], key=12, versions=(3, 13), announced_min=0)}


def ask(version: int, name: str = "", software_version: str = "") -> ApiVersionsResponse:
    ctx = RequestContext(
        services=cast("Services", None),
        api_key=18,
        version=version,
        client_id=None,
        client_host="192.0.2.1",
        connection_id=1,
        now_ms=0,
        now=0.0,
        apis=APIS,
    )
    request = ApiVersionsRequest(client_software_name=name, client_software_version=software_version)
    answer = api_versions.handle(ctx, request)
    assert isinstance(answer, ApiVersionsResponse)
    return answer


@pytest.mark.parametrize("version", range(5))
def test_rows_and_no_features(version: int) -> None:
    answer = ask(version, "apache-kafka-java", "4.3.1")
    assert answer.error_code == 0
    rows = [(row.api_key, row.min_version, row.max_version) for row in answer.api_keys]
    assert rows == [(18, 0, 4), (12, 0, 13)]
    assert answer.supported_features == answer.finalized_features == []
    assert not answer.zk_migration_ready


@pytest.mark.parametrize("bad", ["", "with space", "-dash-first", "dash-last-", "ünï", "a\n", "a/b", "."])
def test_bad_software_names(bad: str) -> None:
    """INVALID_REQUEST, for the name and for the version; version 2 has neither."""
    assert ask(3, bad, "1.0").error_code == ErrorCode.INVALID_REQUEST
    assert ask(4, "good", bad).error_code == ErrorCode.INVALID_REQUEST
    assert ask(2, bad, bad).error_code == 0


@pytest.mark.parametrize("good", ["a", "librdkafka", "kafka-python", "3.0.12", "1.0-SNAPSHOT", "0"])
def test_good_software_names(good: str) -> None:
    assert ask(3, good, good).error_code == 0
