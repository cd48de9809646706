"""Changes as records."""

from __future__ import annotations

import json
import random

import pytest

from pykbroker.catalog.changes import CreateTopic, ObjectTooLarge, SetTopicConfig, decode, encode
from pykbroker.catalog.draft import Draft
from pykbroker.catalog.image import Image
from tests.catalog.histories import change


def test_every_change_comes_back_as_it_was() -> None:
    chance = random.Random(7)
    draft, kinds = Draft(Image(cluster_id="c")), set()
    for _ in range(300):
        one = change(draft.view(), chance)
        assert decode(encode(one)) == one
        kinds.add(type(one))
        draft.apply(one)
    assert len(kinds) == 11


def test_equal_replicas_are_written_once() -> None:
    many = CreateTopic(name="a", topic_id=b"\x01" * 16, replicas=((1,),) * 10_000)
    assert len(encode(many)) < 200
    assert decode(encode(many)) == many


def test_objects_have_a_ceiling() -> None:
    with pytest.raises(ObjectTooLarge, match="allowed: 1000000"):
        encode(SetTopicConfig(name="a", version=0, overrides={"x": "y" * 1_000_000}))


def test_unknown_types_are_refused_and_unknown_fields_ignored() -> None:
    with pytest.raises(ValueError, match="unknown type of catalog record: 'later'"):
        decode(b'{"type":"later"}')
    entry = {"type": "elect", "node": 1, "reason": "of a newer version"}
    assert decode(json.dumps(entry).encode()) == decode(b'{"type":"elect","node":1}')
