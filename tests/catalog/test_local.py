"""The catalog on disk: what was answered survives, what was not may, nothing is half there."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from pykbroker.catalog import local
from pykbroker.catalog.changes import Change, Conflict, CreateTopic, Elect, RegisterBroker, SetTopicConfig
from pykbroker.catalog.delta import Delta
from pykbroker.catalog.image import Image, new_topic_id
from pykbroker.catalog.local import DIRECTORY, CatalogError, LocalCatalog
from pykbroker.clock import MovableClock
from pykbroker.config import BrokerConfig, TopicConfig
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.log.files import FaultyFiles, Files
from tests.catalog.histories import change

_open: list[LocalCatalog] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Descriptors of catalogs that a test leaves as a killed broker would."""
    yield
    while _open:
        _open.pop()._log.close(clean=False)


def opened(directory: Path, files: Files | None = None) -> LocalCatalog:
    catalog = LocalCatalog.open(directory, BrokerConfig(), cluster_id="c", clock=MovableClock(), files=files)
    _open.append(catalog)
    return catalog


def killed(directory: Path) -> Path:
    """The data directory as a kill -9 at this moment leaves it."""
    copy = directory.with_name(directory.name + "x")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy)
    return copy


def creation(name: str) -> CreateTopic:
    return CreateTopic(name=name, topic_id=new_topic_id(), replicas=((1,),))


class SyncedDirectories(Files):
    """Notes whose names are on the disk."""

    def __init__(self) -> None:
        self.known: dict[Path, set[str]] = {}

    def sync_directory(self, path: str | Path) -> None:
        super().sync_directory(path)
        self.known[Path(path)] = {entry.name for entry in Path(path).iterdir()}


async def test_a_power_cut_leaves_the_directory_of_a_new_catalog(tmp_path: Path) -> None:
    files = SyncedDirectories()
    catalog = opened(tmp_path, files)
    await catalog.propose([creation("t")])
    assert DIRECTORY in files.known[tmp_path]
    assert any(name.endswith(".log") for name in files.known[tmp_path / DIRECTORY])


async def test_a_new_directory_is_an_empty_catalog(tmp_path: Path) -> None:
    assert opened(tmp_path).image == Image(cluster_id="c")
    assert (tmp_path / DIRECTORY).is_dir()


@pytest.mark.parametrize("snapshot_after", [2000, 25])
async def test_a_history_comes_back_at_every_point(
    tmp_path: Path, snapshot_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SNAPSHOT_AFTER", snapshot_after)
    chance = random.Random(snapshot_after)
    catalog = opened(tmp_path / "d")
    for number in range(150):
        changes: list[Change] = [change(catalog.image, chance)]
        await catalog.propose(changes)
        if number % 15 == 0:
            again = opened(killed(tmp_path / "d"))
            assert again.image == catalog.image
            assert again.broker_config == catalog.broker_config
    catalog.close()
    assert opened(tmp_path / "d").image == catalog.image


async def test_history_does_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SNAPSHOT_AFTER", 20)
    monkeypatch.setattr(local, "_LOG_CONFIG", TopicConfig(segment_bytes=1000, retention_ms=-1))
    catalog = opened(tmp_path)
    await catalog.propose([creation("a")])
    for version in range(200):
        await catalog.propose([SetTopicConfig(name="a", version=version, overrides={"segment.ms": "1"})])
    assert len(list((tmp_path / DIRECTORY).glob("*.checkpoint"))) == 1
    assert sum(path.stat().st_size for path in (tmp_path / DIRECTORY).glob("*.log")) < 5000
    assert opened(killed(tmp_path)).image == catalog.image


async def test_a_proposal_is_all_or_none(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    told: list[Delta] = []
    catalog.subscribe(told.append)
    with pytest.raises(Conflict):
        await catalog.propose([creation("a"), creation("a")])
    assert not catalog.image.topics
    assert catalog.newest() is catalog.image
    await catalog.propose([creation("a"), creation("b"), Elect(node_id=1)])
    assert [[topic.name for topic in delta.created] for delta in told] == [["a", "b"]]
    assert opened(killed(tmp_path)).image == catalog.image


async def test_nothing_to_propose(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    assert await catalog.propose([]) is catalog.image


class CountingFiles(Files):
    """Counts syncs."""

    syncs = 0

    def sync_data(self, fd: int) -> None:
        self.syncs += 1
        super().sync_data(fd)


async def test_proposals_that_come_together_share_a_sync(tmp_path: Path) -> None:
    files = CountingFiles()
    catalog = opened(tmp_path, files)
    files.syncs = 0
    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(catalog.propose, [creation(f"t{number}")])
    assert len(catalog.image.topics) == 30
    assert files.syncs <= 3


async def test_who_loses_a_race_decides_again(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    await catalog.propose([creation("a")])

    async def bump() -> None:
        def decide(image: Image) -> list[Change]:
            topic = image.topics["a"]
            number = int(topic.overrides.get("segment.ms", "0")) + 1
            overrides = {"segment.ms": str(number)}
            return [SetTopicConfig(name="a", version=topic.config_version, overrides=overrides)]

        await catalog.update(decide)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(bump)
    assert catalog.image.topics["a"].overrides == {"segment.ms": "20"}


async def test_who_goes_away_does_not_take_the_change_along(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    with trio.CancelScope() as scope:
        scope.cancel()
        await catalog.propose([creation("a")])
    assert "a" in catalog.image.topics


async def test_after_any_failure_of_the_disk_all_or_nothing_is_there(tmp_path: Path) -> None:
    """Fail the 1st, 2nd, 3rd ... operation, once, until the story passes untouched."""
    for fail_at in range(1, 200):
        directory = tmp_path / str(fail_at)
        files = FaultyFiles()
        catalog = opened(directory, files)
        await catalog.propose([creation("before")])
        files.fail_at, files.count = fail_at, 0
        names = {"before"}
        try:
            await catalog.propose([creation("a"), creation("b")])
            names |= {"a", "b"}
        except KafkaError as error:
            code = error.code
        else:
            code = ErrorCode.NONE
        assert code is (ErrorCode.NONE if "a" in names else ErrorCode.KAFKA_STORAGE_ERROR)
        assert set(catalog.image.topics) == set(catalog.newest().topics) == names
        files.fail_at = 0
        await catalog.propose([creation("after")])
        image = opened(killed(directory)).image
        assert image == catalog.image
        if not files.failed:
            assert fail_at > 2
            return
    raise AssertionError("the story never passed untouched")


async def test_a_torn_tail_is_cut(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    await catalog.propose([creation("a")])
    before = catalog.image
    size = (tmp_path / DIRECTORY / f"{0:020d}.log").stat().st_size
    await catalog.propose([creation("b")])
    whole = (tmp_path / DIRECTORY / f"{0:020d}.log").stat().st_size
    for end in (size + 1, size + 40, whole - 1):
        copy = killed(tmp_path)
        with (copy / DIRECTORY / f"{0:020d}.log").open("r+b") as file:
            file.truncate(end)
        assert opened(copy).image == before


async def test_damage_in_the_middle_refuses_to_start(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    for name in "abc":
        await catalog.propose([creation(name)])
    copy = killed(tmp_path)
    path = copy / DIRECTORY / f"{0:020d}.log"
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    with pytest.raises(CatalogError, match="restore it from a backup"):
        opened(copy)


async def test_another_clusters_snapshot_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SNAPSHOT_AFTER", 1)
    catalog = opened(tmp_path)
    await catalog.propose([RegisterBroker(node_id=1, endpoints=())])
    catalog.close()
    with pytest.raises(CatalogError, match="belongs to cluster c"):
        LocalCatalog.open(tmp_path, BrokerConfig(), cluster_id="other", clock=MovableClock())


async def test_a_disk_that_stays_broken_leaves_a_catalog_to_read(tmp_path: Path) -> None:
    files = FaultyFiles()
    catalog = opened(tmp_path, files)
    await catalog.propose([creation("a")])
    files.for_good, files.count, files.fail_at = True, 0, 2  # the write passes, the sync does not
    for _ in range(2):
        with pytest.raises(KafkaError) as caught:
            await catalog.propose([creation("b")])
        assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    assert set(catalog.image.topics) == {"a"}


async def test_who_finds_it_done_waits_until_it_is_durable(tmp_path: Path) -> None:
    """Two ask for the same topic at once: the second has nothing to propose, but not yet the topic."""
    catalog = opened(tmp_path)
    images: list[Image] = []

    async def ensure() -> None:
        images.append(await catalog.update(lambda image: [] if "t" in image.topics else [creation("t")]))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ensure)
    assert ["t" in image.topics for image in images] == [True, True, True]


async def test_who_found_it_done_decides_again_when_it_is_taken_back(tmp_path: Path) -> None:
    files = FaultyFiles()
    catalog = opened(tmp_path, files)
    outcomes: list[bool] = []

    async def ensure() -> None:
        try:
            image = await catalog.update(lambda image: [] if "t" in image.topics else [creation("t")])
        except KafkaError:
            outcomes.append(False)
        else:
            outcomes.append("t" in image.topics)

    files.fail_at = files.count + 2  # after the write, the sync
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ensure)
        nursery.start_soon(ensure)
    assert files.failed
    assert sorted(outcomes) == [False, True]
