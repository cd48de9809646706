"""Topic ids."""

from __future__ import annotations

import uuid

import pytest

from pykbroker.catalog import image
from pykbroker.catalog.image import Image, new_topic_id, topic_id_bytes, topic_id_text


def test_topic_ids_are_uuids_whose_text_is_no_option() -> None:
    for _ in range(200):
        topic_id = new_topic_id()
        assert uuid.UUID(bytes=topic_id).version == 4
        text = topic_id_text(topic_id)
        assert len(text) == 22
        assert not text.startswith("-")
        assert topic_id_bytes(text) == topic_id


def test_reserved_ids_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    good = b"\x01" * 16
    draws = [bytes(16), bytes(15) + b"\x01", b"\xf8" + bytes(15), good]
    monkeypatch.setattr(image, "_random_uuid", lambda: draws.pop(0))
    assert new_topic_id() == good


def test_what_is_no_topic_id() -> None:
    for text in ("", "abc", "!" * 22, "A" * 24):
        with pytest.raises(ValueError, match=r"."):
            topic_id_bytes(text)


def test_partitions_that_do_not_exist() -> None:
    assert Image(cluster_id="c").partition("a", 0) is None
