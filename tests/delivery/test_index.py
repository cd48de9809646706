"""The due-time index on disk: like its twin in memory, and begun anew where it is lost."""

from __future__ import annotations

import builtins
import sqlite3
from collections.abc import Awaitable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from pykbroker.delivery import sqlite_index
from pykbroker.delivery.index import Extent, Index, Indexed, IndexLost, IndexUnavailable, MemoryIndex
from pykbroker.delivery.released import LOWEST, Era, Released, Row
from pykbroker.delivery.sqlite_index import FILE, SqliteIndex
from pykbroker.forwarding.plan import Place

T = TypeVar("T")
A, B = Place(b"a" * 16, 0), Place(b"a" * 16, 1)
C = Place(b"c" * 16, 0)
EVERYTHING = 1 << 40
ALL = Released.nothing(0)
NOTHING = Extent(None, 0, 0)


async def all_of(index: Index, lane: Place) -> list[Row]:
    return list(await index.above(lane, LOWEST, 10_000, 0, EVERYTHING))


async def test_rows_come_in_the_order_of_their_times(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path)
    assert await index.indexed(A) is None
    await index.add(A, [Row(9, 0), Row(5, 1), Row(5, 2)], Indexed(3, 1))
    await index.add(B, [Row(1, 0)], Indexed(1, 1))
    assert await all_of(index, A) == [Row(5, 1), Row(5, 2), Row(9, 0)]
    assert await index.above(A, Row(5, 1), 1, 0, 3) == [Row(5, 2)]
    assert await index.late(A, Row(5, 2), 9, 0, 3) == [Row(5, 1), Row(5, 2)]
    assert await index.indexed(A) == Indexed(3, 1)
    assert await index.extent(A, 9) == (0, 3, 0)
    assert [await index.extent(C, 9), await index.waiting(A, ALL)] == [NOTHING, 3]
    await index.aclose()


async def test_it_is_there_again_after_a_restart(tmp_path: Path) -> None:
    first = SqliteIndex(tmp_path)
    await first.add(A, [Row(9, 0)], Indexed(1, 4))
    await first.aclose()
    second = SqliteIndex(tmp_path)
    assert await second.indexed(A) == Indexed(1, 4)
    assert await all_of(second, A) == [Row(9, 0)]
    await second.aclose()


@pytest.mark.parametrize("damage", ["junk", "other", "tables", "page"])
async def test_a_damaged_file_is_begun_anew(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = SqliteIndex(tmp_path)
    await first.add(A, [Row(number, number) for number in range(20_000)], Indexed(20_000, 0))
    await first.aclose()
    path = tmp_path / FILE
    if damage == "junk":
        path.write_bytes(b"not a database, by any means" * 1000)
    elif damage == "page":
        content = bytearray(path.read_bytes())
        content[4096 * 3 : 4096 * 40] = b"\xff" * (4096 * 37)
        path.write_bytes(content)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("DROP TABLE held" if damage == "tables" else "PRAGMA user_version = 99")
        connection.close()
    second = SqliteIndex(tmp_path)
    with pytest.raises(IndexLost):
        await all_of(second, A)
    assert "made anew" in caplog.text
    assert await second.indexed(A) is None
    await second.add(A, [Row(1, 1)], Indexed(2, 0))
    assert await all_of(second, A) == [Row(1, 1)]
    await second.aclose()


async def test_a_file_of_an_earlier_release_is_begun_anew_and_nobody_speaks_of_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(tmp_path / FILE) as connection:
        for statement in (
            "CREATE TABLE lanes (lane INTEGER PRIMARY KEY, topic BLOB NOT NULL, number INTEGER NOT NULL, "
            "indexed INTEGER NOT NULL, epoch INTEGER NOT NULL, UNIQUE (topic, number))",
            "CREATE TABLE held (lane INTEGER NOT NULL, due INTEGER NOT NULL, at INTEGER NOT NULL, "
            "PRIMARY KEY (lane, due, at)) WITHOUT ROWID",
            "PRAGMA user_version = 1",
        ):
            connection.execute(statement)
        connection.execute("INSERT INTO lanes VALUES (1, ?, 0, 1, 0)", (A.topic_id,))
        connection.execute("INSERT INTO held VALUES (1, 5, 0)")
    connection.close()
    index = SqliteIndex(tmp_path)
    with pytest.raises(IndexLost):
        await index.indexed(A)
    assert "version 1" in caplog.text
    assert "damage" not in caplog.text
    assert await index.indexed(A) is None
    await index.add(A, [Row(5, 0)], Indexed(1, 0), [70])
    assert await index.extent(A, 1) == Extent(0, 1, 70)
    await index.aclose()


async def test_every_lane_learns_that_the_file_was_begun_anew(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path)
    for lane in (A, B):
        assert await index.indexed(lane) is None
        await index.add(lane, [Row(5, 0)], Indexed(1, 0))
    await index.aclose()
    index._file._closed = False
    (tmp_path / FILE).write_bytes(b"not a database, by any means" * 1000)
    with pytest.raises(IndexLost):
        await all_of(index, A)
    assert await index.indexed(A) is None
    await index.add(A, [Row(5, 0)], Indexed(1, 0))
    # Nothing found, and what comes added behind it, would leave out all that was there for good.
    with pytest.raises(IndexLost):
        await all_of(index, B)
    with pytest.raises(IndexLost):
        await index.add(B, [Row(6, 1)], Indexed(2, 0))
    with pytest.raises(IndexLost):
        await index.purge(B, ALL._replace(eras=(Era(0, Row(9, 9)),)))
    assert await index.indexed(B) is None
    assert await all_of(index, B) == []
    assert await all_of(index, A) == [Row(5, 0)]
    await index.aclose()


async def test_the_file_becomes_smaller_again(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path)
    for start in range(0, 500_000, 50_000):
        rows = [Row(number, number) for number in range(start, start + 50_000)]
        await index.add(A, rows, Indexed(start + 50_000, 0))
    await index.add(B, [Row(5, 0)], Indexed(1, 0))
    await index.purge(A, Released(500_000, (Era(0, Row(1 << 40, 0)),)))
    assert await index.extent(A, EVERYTHING) == NOTHING
    await index.aclose()
    assert (tmp_path / FILE).stat().st_size < 3_000_000
    again = SqliteIndex(tmp_path)
    assert await all_of(again, B) == [Row(5, 0)]
    await again.aclose()


@pytest.mark.parametrize("statement", ["UPDATE held SET due = 'soon'", "UPDATE lanes SET indexed = x'ff00'"])
async def test_values_that_nobody_wrote_are_damage(tmp_path: Path, statement: str) -> None:
    first = SqliteIndex(tmp_path)
    await first.add(A, [Row(5, 0)], Indexed(1, 0))
    await first.aclose()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute(statement)
    connection.close()
    second = SqliteIndex(tmp_path)
    with pytest.raises(IndexLost):
        _ = await second.indexed(A), await all_of(second, A)
    assert await second.indexed(A) is None
    await second.aclose()


async def test_a_damaged_file_that_cannot_be_removed_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FILE).write_bytes(b"not a database, by any means" * 1000)
    index = SqliteIndex(tmp_path)

    def fails(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "not yours")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", fails)
        with pytest.raises(IndexUnavailable, match="remove"):
            await index.indexed(A)
    with pytest.raises(IndexLost):
        await index.indexed(A)
    assert await index.indexed(A) is None
    await index.aclose()


async def test_a_file_that_cannot_be_written_is_said_and_tried_again(tmp_path: Path) -> None:
    directory = tmp_path / "missing"
    index = SqliteIndex(directory)
    with pytest.raises(IndexUnavailable, match=FILE):
        await index.add(A, [Row(1, 1)], Indexed(2, 0))
    directory.mkdir()
    await index.add(A, [Row(1, 1)], Indexed(2, 0))
    assert await all_of(index, A) == [Row(1, 1)]
    await index.aclose()


async def test_a_python_without_sqlite_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name == "sqlite3":
            raise ImportError(name)
        return original(name, *rest, **more)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(IndexUnavailable, match="no sqlite3 module"):
        await SqliteIndex(tmp_path).indexed(A)


async def test_purging_and_forgetting_go_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_index, "SLICE", 7)
    monkeypatch.setattr(sqlite_index, "SCAN", 10)
    index = SqliteIndex(tmp_path)
    rows = [Row(5, number) for number in range(50)]
    await index.add(A, rows, Indexed(50, 0), [100] * 50)
    await index.add(C, [Row(1, 1)], Indexed(2, 0))
    assert await index.purge(A, Released(50, (Era(0, Row(5, 29)),))) == 30
    assert await index.extent(A, 35) == (30, 5, 500)
    assert await index.extent(A, 0) == (30, 0, 0)
    await index.forget({A.topic_id})
    assert await index.lanes() == [C]
    assert [await index.indexed(A), await index.extent(A, 9)] == [None, NOTHING]
    assert await index.waiting(C, ALL) == 1
    await index.aclose()


async def test_asking_is_looking_up_and_not_looking_through(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path)
    await index.add(A, [Row(5, 0)], Indexed(1, 0))
    connection = sqlite3.connect(tmp_path / FILE)
    query = "SELECT due, at FROM held WHERE lane = 1 AND (due, at) > (5, 7) ORDER BY due, at LIMIT 5"
    plan = [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    connection.close()
    assert plan == ["SEARCH held USING PRIMARY KEY (lane=? AND (due,at)>(?,?))"]
    await index.aclose()


ROWS = st.lists(st.builds(Row, st.integers(0, 30), st.integers(0, 40)), max_size=8)
LANES = st.sampled_from([A, B, C])
KEYS = st.builds(Row, st.integers(-1, 31), st.integers(-1, 41))
OFFSETS = st.integers(0, 42)


class Twins(RuleBasedStateMachine):
    """Whatever is asked of both, both answer the same."""

    @initialize()
    def begin(self) -> None:
        self.directory = TemporaryDirectory()
        self.twin = MemoryIndex()
        self.index: Index = SqliteIndex(Path(self.directory.name))

    def same(self, ask: object) -> None:
        assert callable(ask)

        async def result(index: Index) -> object:
            awaitable: Awaitable[object] = ask(index)
            return await awaitable

        assert trio.run(result, self.index) == trio.run(result, self.twin)

    @rule(lane=LANES, rows=ROWS, end=OFFSETS, epoch=st.integers(0, 3), size=st.integers(0, 100))
    def add(self, lane: Place, rows: list[Row], end: int, epoch: int, size: int) -> None:
        sizes = [size] * len(rows)
        self.same(lambda index: index.add(lane, rows, Indexed(end, epoch), sizes))

    @rule(lane=LANES, end=OFFSETS)
    def cut(self, lane: Place, end: int) -> None:
        self.same(lambda index: index.cut(lane, Indexed(end, 7)))

    @rule(lane=LANES, key=KEYS, limit=st.integers(1, 5), start=OFFSETS, end=OFFSETS)
    def ask(self, lane: Place, key: Row, limit: int, start: int, end: int) -> None:
        self.same(lambda index: index.above(lane, key, limit, start, end))

        async def late(index: Index) -> list[int]:
            # Rows of one offset, which there are in this test only, come in any order.
            return [row.offset for row in await index.late(lane, key, limit, start, end)]

        self.same(late)

    @rule(lane=LANES, below=OFFSETS)
    def look(self, lane: Place, below: int) -> None:
        self.same(lambda index: index.indexed(lane))
        self.same(lambda index: index.extent(lane, below))

    @rule(lane=LANES, end=OFFSETS, horizon=KEYS, start=OFFSETS, later=KEYS)
    def purge(self, lane: Place, end: int, horizon: Row, start: int, later: Row) -> None:
        eras = (Era(0, horizon), Era(start, later)) if start < end else (Era(0, horizon),)
        released = Released(end, eras)
        self.same(lambda index: index.waiting(lane, released))
        self.same(lambda index: index.purge(lane, released))

    @rule(lane=LANES)
    def forget(self, lane: Place) -> None:
        self.same(lambda index: index.forget({lane.topic_id}))

    @rule()
    def restart(self) -> None:
        trio.run(self.index.aclose)
        self.index = SqliteIndex(Path(self.directory.name))

    def teardown(self) -> None:
        if hasattr(self, "index"):
            trio.run(self.index.aclose)
            self.directory.cleanup()


TestTwins = Twins.TestCase
