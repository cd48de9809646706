"""What must be there after the chaos, in users' terms, and what is: read from the files of all logs.

Files, for records of topics that were deleted meanwhile count too: what had come there had come.  An
:class:`Archive` keeps them by links, whatever the broker removes.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pykbroker.log.checkpoints import read_partition_metadata
from pykbroker.records.decode import iter_all_records
from tests.crash.chaos_load import LATER, NACK, PRODUCE, Flow, Got, Id, Rules, text
from tests.crash.chaos_members import Group

REPAIRED = "repaired"
"""Where some letters are replayed to."""
OURS = ("pykbroker-", "__dlq.errors.")
_PARTITION = re.compile(r"(?!__)(.+)-([0-9]+)(?:\.[0-9a-f]{32}-delete)?")
"""What is deleted gets a mark behind its name before it goes."""
_PAUSE_S = 0.02
POLICIES = {"immediate", "fixed", "exponential", "linear", "none"}


class Log(NamedTuple):
    """One partition of one topic of several of that name."""

    topic: str
    topic_id: bytes
    partition: int


class Archive(threading.Thread):
    """Links to all segments of topics that users see, made as they come and kept when they go."""

    def __init__(self, data_dir: Path, home: Path) -> None:
        super().__init__(name="archive", daemon=True)
        self._data_dir, self._home = data_dir, home
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.files: dict[Log, dict[int, Path]] = defaultdict(dict)
        """By inode."""
        self.problems: list[str] = []
        self._pause_s = _PAUSE_S
        home.mkdir()

    def run(self) -> None:
        try:
            while not self._stopping.wait(self._pause_s):
                self.look()
        except Exception as error:
            self.problems.append(repr(error))
            raise

    def stop(self) -> None:
        self._stopping.set()
        self.join()
        self.look()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Look before, and without a pause meanwhile."""
        self.look()
        self._pause_s = 0
        try:
            yield
        finally:
            self._pause_s = _PAUSE_S

    def look(self) -> None:
        """Link what is new."""
        with self._lock, os.scandir(self._data_dir) as entries:
            for entry in entries:
                named = _PARTITION.fullmatch(entry.name)
                if named is not None:
                    # It may go while it is looked at.
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                        self._link(Path(entry.path), named[1], int(named[2]))

    def _link(self, directory: Path, topic: str, partition: int) -> None:
        topic_id = read_partition_metadata(directory)
        if topic_id is None:
            return
        known = self.files[Log(topic, topic_id, partition)]
        for entry in os.scandir(directory):
            if entry.name.endswith(".log") and entry.inode() not in known:
                kept = self._home / f"{topic}-{partition}.{topic_id.hex()}.{entry.name}.{entry.inode()}"
                os.link(entry.path, kept)
                known[entry.inode()] = kept

    def topic_id(self, topic: str) -> bytes:
        """Of the topic that is there now; empty while it has no files."""
        for number in range(20):
            topic_id = read_partition_metadata(self._data_dir / f"{topic}-{number}")
            if topic_id is not None:
                return topic_id
        return b""

    def read(self) -> dict[Log, list[Got]]:
        """All records, by log in order; of the last batch as much as is written."""
        with self._lock:
            files = {log: list(paths.values()) for log, paths in self.files.items()}
        found: dict[Log, list[Got]] = {}
        for log, paths in files.items():
            records: dict[int, Got] = {}
            for path in paths:
                for _, each in iter_all_records(path.read_bytes()):
                    records[each.offset] = Got(
                        log.topic,
                        log.partition,
                        each.offset,
                        each.key,
                        each.value,
                        each.headers,
                        each.timestamp,
                    )
            found[log] = [records[offset] for offset in sorted(records)]
        return found


class Rewind(NamedTuple):
    """The ``group`` stood at ``before``, and went back to ``to``."""

    group: str
    log: Log
    to: int
    before: int


@dataclass(slots=True)
class Story:
    """What was done, as far as it says what must be there."""

    rewinds: list[Rewind] = field(default_factory=list)
    starts: dict[Log, int] = field(default_factory=lambda: defaultdict(int))
    """Below, records were deleted."""
    gone: set[str] = field(default_factory=set)
    """Names of topics that were deleted at some time."""
    without_policy: set[str] = field(default_factory=set)
    """Topics that had no policy at some time."""
    attempts: set[int] = field(default_factory=set)
    """All values of ``pykbroker.retry.max.attempts`` that there were."""
    letter_topics: set[str] = field(default_factory=set)
    """Topics with dead letters beside those of the flows."""
    live: dict[str, bytes] = field(default_factory=dict)
    """The topics that are there in the end."""
    settled: dict[Log, set[int]] = field(default_factory=dict)


class Place(NamedTuple):
    log: Log
    record: Got


class Verdict:
    """Everything that is not as it must be, by kind."""

    def __init__(
        self, rules: Rules, groups: Iterable[Group], sent: Mapping[str, Sequence[Id]], story: Story
    ) -> None:
        self._rules, self._groups, self._sent, self._story = rules, list(groups), sent, story
        self.missing: list[object] = []
        self.problems: dict[str, list[object]] = defaultdict(list)
        self.counts: Counter[str] = Counter()

    def judge(self, logs: Mapping[Log, Sequence[Got]]) -> Verdict:
        """Look at everything."""
        flows = {flow: group for group in self._groups for flow in group.flows}
        origins: dict[Id, list[Place]] = defaultdict(list)
        retried: dict[tuple[Flow, Id, int], list[Place]] = defaultdict(list)
        letters: dict[tuple[Flow, Id, int], list[Place]] = defaultdict(list)
        replayed: Counter[Id] = Counter()
        by_retry = {flow.retry: flow for flow in flows}
        by_letters = {flow.dead_letters: flow for flow in flows}
        topics = {flow.topic for flow in flows}
        for log, records in logs.items():
            for record in records:
                place = Place(log, record)
                if log.topic == REPAIRED:
                    replayed[record.id] += 1
                elif log.topic in topics or log.topic == LATER:
                    origins[record.id].append(place)
                elif log.topic in by_retry:
                    retried[by_retry[log.topic], record.id, record.attempt].append(place)
                elif log.topic in by_letters:
                    letters[by_letters[log.topic], record.id, record.attempt].append(place)
                elif log.topic in self._story.letter_topics:
                    names = (
                        text(record.headers, f"__dlq.errors.{name}") or "" for name in ("topic", "group")
                    )
                    letters[Flow(*names), record.id, record.attempt].append(place)
                else:
                    continue
                self.counts[log.topic] += 1
                self._check_untouched(place)
        for topic, ids in self._sent.items():
            for each in ids:
                self._check_origin(topic, each, origins[each], replayed[each])
        for (flow, each, attempt), places in retried.items():
            for place in places:
                self._check_headers(flow, each, attempt, place, origins[each], is_letter=False)
        for (flow, each, attempt), places in letters.items():
            for place in places:
                self._check_headers(flow, each, attempt, place, origins[each], is_letter=True)
        for flow, group in flows.items():
            self._check_chains(flow, group, origins, retried, letters)
        self._check_settled(origins, replayed, letters)
        return self

    # -- chains

    def _check_chains(
        self,
        flow: Flow,
        group: Group,
        origins: Mapping[Id, Sequence[Place]],
        retried: Mapping[tuple[Flow, Id, int], Sequence[Place]],
        letters: Mapping[tuple[Flow, Id, int], Sequence[Place]],
    ) -> None:
        most = max(self._story.attempts) + 1
        for each in self._sent[flow.topic]:
            for attempt in range(most + 1):
                key = (flow, each, attempt)
                parents = list(origins.get(each, ())) if attempt == 0 else list(retried.get(key, ()))
                least, highest = self._failures(flow, group, each, attempt, parents)
                after = (flow, each, attempt + 1)
                children = [*retried.get(after, ()), *letters.get(after, ())]
                live = [child for child in children if self._is_live(child.log)]
                what = (flow.retry, each.text, attempt, f"{least}-{highest}", self._where(children))
                if len(children) < least:
                    self.missing.append(what)
                if len(live) > highest:
                    self.problems["too many"].append(what)

    @staticmethod
    def _where(places: Iterable[Place]) -> list[str]:
        return [
            f"{log.topic}/{log.partition}/{record.offset} of {log.topic_id.hex()[:6]}"
            for log, record in places
        ]

    def _failures(
        self, flow: Flow, group: Group, each: Id, attempt: int, parents: Sequence[Place]
    ) -> tuple[int, int]:
        """How often the record has failed for this time, at least and at most."""
        rules, story = self._rules, self._story
        if attempt >= rules.failures(each, flow.group):
            return 0, 0
        if rules.way(each, attempt, flow.group) == PRODUCE:
            key = (flow, each, attempt)
            sure = group.ledger.sent[key]
            return sure, sure + group.ledger.uncertain[key]
        assert rules.way(each, attempt, flow.group) == NACK
        least = highest = 0
        for log, record in parents:
            count = 1 + sum(
                rewind.group == flow.group
                and rewind.log == log
                and rewind.to <= record.offset < rewind.before
                for rewind in story.rewinds
            )
            highest += count
            if not self._is_live(log) or record.offset < story.starts[log]:
                continue
            if attempt == 0 and flow.topic in story.without_policy:
                continue
            least += count
        return least, highest

    def _is_live(self, log: Log) -> bool:
        return self._story.live.get(log.topic, log.topic_id) == log.topic_id

    # -- origins and replays

    def _check_origin(self, topic: str, each: Id, places: Sequence[Place], elsewhere: int) -> None:
        if not places:
            self.missing.append((topic, each.text, "sent"))
        replayable = topic != LATER and self._rules.reason(each) == "again"
        if len(places) + elsewhere > 1 and not replayable:
            self.problems["too many"].append((topic, each.text, self._where(places), elsewhere))

    def _check_settled(
        self,
        origins: Mapping[Id, Sequence[Place]],
        replayed: Mapping[Id, int],
        letters: Mapping[tuple[Flow, Id, int], Sequence[Place]],
    ) -> None:
        """Each letter that is settled was replayed once, each that is not was not."""
        story = self._story
        least: Counter[Id] = Counter()
        highest: Counter[Id] = Counter()
        for (_, each, _), places in letters.items():
            for log, record in places:
                is_known = self._is_live(log) and record.offset >= story.starts[log]
                is_settled = record.offset in story.settled.get(log, ())
                least[each] += is_known and is_settled
                highest[each] += not is_known or is_settled
        for each in {*least, *highest}:
            if self._rules.reason(each) != "again":
                continue
            copies = len(origins[each]) - 1 + replayed.get(each, 0)
            what = (each.text, f"{least[each]}-{highest[each]}", copies, self._where(origins[each]))
            if copies < least[each]:
                self.missing.append(("replayed", *what))
            if story.settled and copies > highest[each]:
                self.problems["replayed twice"].append(what)

    # -- single records

    def _check_untouched(self, place: Place) -> None:
        record, rules = place.record, self._rules
        each = record.id
        own = [header for header in record.headers if not header[0].startswith(OURS)]
        # Values are long: what is said of them is short.
        is_so = (record.key, hash(record.value), record.timestamp, own)
        must_be = (rules.key(each), hash(rules.value(each)), rules.timestamp(each), rules.own_headers(each))
        if is_so != must_be:
            self.problems["changed"].append((self._where([place]), is_so, must_be))

    def _check_headers(
        self, flow: Flow, each: Id, attempt: int, place: Place, origins: Sequence[Place], *, is_letter: bool
    ) -> None:
        problems = list(self._wrong_headers(flow, each, attempt, place.record, origins))
        if is_letter:
            problems += self._wrong_letter(flow, attempt, place.record)
        elif place.record.partition not in {origin.log.partition for origin in origins}:
            problems.append(f"is in another partition than {self._where(origins)}")
        least, most = min(self._story.attempts), max(self._story.attempts)
        is_early = attempt <= least and flow.topic not in self._story.gone | self._story.without_policy
        if (is_letter and is_early) or (not is_letter and attempt > most) or attempt > most + 1:
            problems.append(f"attempts are {self._story.attempts}")
        if problems:
            self.problems["headers"].append((self._where([place]), each.text, problems, place.record.headers))

    def _wrong_headers(
        self, flow: Flow, each: Id, attempt: int, record: Got, origins: Sequence[Place]
    ) -> Iterator[str]:
        found = {name: text(record.headers, name) for name, _ in record.headers if name.startswith(OURS)}
        by_nack = self._rules.way(each, 0, flow.group) == NACK
        sources = {f"{flow.topic}/{log.partition}/{origin.offset}" for log, origin in origins}
        if found.get("pykbroker-source") not in (sources if by_nack else {flow.topic}):
            yield f"source: {sources if by_nack else flow.topic}"
        if found.get("pykbroker-group") != flow.group:
            yield f"group: {flow.group}"
        if attempt < 1:
            yield "attempt"
        first, last = (int(found.get(f"pykbroker-{x}-failure-ms") or -1) for x in ("first", "last"))
        if not 0 < first <= last or (attempt == 1 and first != last):
            yield "times"
        if found.get("pykbroker-policy") not in POLICIES:
            yield "policy"
        # Where a nack counted for nothing, it counts when it is repeated with that of another record.
        may_differ = flow.topic in self._story.without_policy
        if found.get("pykbroker-reason") != self._rules.reason(each) and not may_differ:
            yield "reason"

    def _wrong_letter(self, flow: Flow, attempt: int, record: Got) -> Iterator[str]:
        source = (text(record.headers, "pykbroker-source") or "").split("/")
        must_be: dict[str, str | None] = {"topic": flow.topic, "group": flow.group}
        must_be |= {"partition": None, "offset": None, "delivery.count": str(attempt)}
        if len(source) == 3:
            must_be |= {"partition": source[1], "offset": source[2]}
        must_be["message"] = text(record.headers, "pykbroker-reason")
        for name, value in must_be.items():
            if text(record.headers, f"__dlq.errors.{name}") != value:
                yield f"{name}: {value}"
