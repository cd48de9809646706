"""Settings of many topics and groups, as commands ask for them."""

from __future__ import annotations

from typing import cast

import pytest

from pykbroker.client import Client
from pykbroker.client.calls import settings_of_groups, settings_of_topics
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
)
from pykbroker.protocol.messages.list_groups import ListedGroup, ListGroupsResponse
from pykbroker.protocol.schema import Message


class Answers:
    """A broker that answers these codes, by the names of what it is asked for, which are the groups too."""

    def __init__(self, **codes: ErrorCode) -> None:
        self.codes = codes

    async def send(self, request: Message, response: type[Message]) -> Message:
        if not isinstance(request, DescribeConfigsRequest):
            return ListGroupsResponse(groups=[ListedGroup(group_id=name) for name in self.codes])
        found = []
        for each in request.resources:
            code = self.codes[each.resource_name]
            rows = [] if code else [DescribeConfigsResourceResult(name="a", value="1")]
            found.append(
                DescribeConfigsResult(
                    error_code=code, error_message=None, resource_name=each.resource_name, configs=rows
                )
            )
        return DescribeConfigsResponse(results=found)


async def test_what_is_not_there_is_left_out() -> None:
    there = cast(
        Client,
        Answers(
            a=ErrorCode.NONE, gone=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, nameless=ErrorCode.INVALID_REQUEST
        ),
    )
    assert await settings_of_topics(there, ["a", "gone"], ["a"]) == {"a": {"a": "1"}}
    assert await settings_of_topics(there, [], ["a"]) == {}
    assert await settings_of_groups(there, ["a"]) == {"a": {"a": "1"}}


async def test_what_cannot_be_told_now_is_no_answer() -> None:
    """While it is being loaded which letters are settled, none would seem to be."""
    loading = cast(Client, Answers(a=ErrorCode.NONE, b=ErrorCode.COORDINATOR_LOAD_IN_PROGRESS))
    with pytest.raises(KafkaError) as caught:
        await settings_of_topics(loading, ["a", "b"], ["a"])
    assert caught.value.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
