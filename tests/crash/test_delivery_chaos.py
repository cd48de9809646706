"""Failed deliveries while everything changes: topics, settings, groups, letters, and the broker dies.

Which harm is done when follows from the seed; what comes of it does not quite, for clients and broker run as
they like.  In the end all must have come to rest, and everything must be there once that the acknowledged
failures ask for: see :mod:`tests.crash.chaos_oracle`.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pykbroker.testing import BrokerProcess
from tests.crash.chaos_load import LATER, NACK, PATIENCE_S, PRODUCE, Rules, Sender
from tests.crash.chaos_members import Group
from tests.crash.chaos_oracle import Archive, Story, Verdict
from tests.crash.chaos_trouble import World
from tests.scale import FULL, scaled

WAYS = {
    "nackers": (NACK,),
    "senders": (PRODUCE,),
    "mixed": (NACK, PRODUCE),
    "confluent": (NACK,),
}
TOPICS = {
    "nackers": ("orders", "notes"),
    "senders": ("orders", "notes"),
    "mixed": ("orders", "bills"),
    "confluent": ("bills",),
}
SEEDS = [int(each) for each in os.environ.get("PYKBROKER_CHAOS_SEEDS", "").split()]
"""To look for something, or at it again: these, and no other."""
ROUNDS = int(os.environ.get("PYKBROKER_CHAOS_ROUNDS", "25"))
SETTINGS = {
    "log.segment.bytes": "300000",
    "log.retention.ms": "-1",  # timestamps are old
    "auto.create.topics.enable": "false",  # nobody but the broker makes topics again
    # What need not be kept goes at once.
    "log.retention.check.interval.ms": "500",
    "offsets.topic.num.partitions": "3",
    "offsets.topic.segment.bytes": "10000",
    "log.cleaner.backoff.ms": "300",
    "log.cleaner.min.cleanable.ratio": "0.05",
}
HARMS = {
    World.kill: 4,
    World.kill_again_and_again: 1,
    World.restart: 1,
    World.delete_retry_topic: 2,
    World.delete_dead_letters: 2,
    World.recreate_origin: 2,
    World.add_partition: 1,
    World.delete_records: 2,
    World.alter_policy: 2,
    World.alter_attempts: 2,
    World.no_policy: 1,
    World.alter_dead_letter_topic: 3,
    World.join: 2,
    World.leave: 2,
    World.rewind: 2,
    World.delete_group: 1,
    World.make_too_small: 1,
    World.replay: 4,
    World.purge: 1,
    World.purge_all: 1,
    World.look: 1,
}
"""With their weights."""
USUAL = (
    (World.join, World.delete_retry_topic, World.alter_attempts),
    (World.alter_dead_letter_topic, World.kill),
    (World.recreate_origin, World.rewind),
    (World.replay, World.kill),
    (World.delete_records, World.alter_policy),
)
"""The rounds of an ordinary run, which has no time for chance."""


@pytest.mark.parametrize("seed", SEEDS or range(scaled(1, 5)))
def test_everything_that_failed_comes_back_once(tmp_path: Path, seed: int) -> None:
    rules, story = Rules(seed, WAYS), Story()
    archive = Archive(tmp_path / "data", tmp_path / "archive")
    with BrokerProcess(data_dir=tmp_path / "data", settings=SETTINGS) as broker:
        groups = [
            Group(broker.bootstrap, name, topics, rules, seed * 1000 + 100 * number)
            for number, (name, topics) in enumerate(TOPICS.items())
        ]
        world = World(broker, groups, archive, story, seed)
        archive.start()
        world.prepare()
        sender = Sender(broker.bootstrap, rules, seed)
        try:
            for group in groups:
                group.join()
            problems = _chaos(world, sender)
            verdict = _wait(world, groups, sender, story, archive, rules)
        finally:
            print("\n".join(world.done))
            print(broker.output()[-200_000:])
            for group in groups:
                group.stop()
            sender.close()
        broker.stop()
        archive.stop()
        verdict = Verdict(rules, groups, sender.ids, story).judge(archive.read())
        said = [line for line in broker.output().splitlines() if re.search(r"ERROR|Traceback|CRITICAL", line)]
    found: dict[str, object] = {**verdict.problems, "missing": verdict.missing[:5], "commands": problems}
    found |= {
        "sender": sender.failures,
        "log": said,
        "archive": archive.problems,
        "check": _check(tmp_path / "data"),
    }
    for group in groups:
        ledger = group.ledger
        found[group.name] = [*ledger.early[:5], *ledger.refused[:5], *ledger.problems[:5]]
    print(verdict.counts)
    found = {name: each[:5] if isinstance(each, list) else each for name, each in found.items() if each}
    assert found == {}, json.dumps(found, indent=1, default=repr)


def _chaos(world: World, sender: Sender) -> list[str]:
    """Rounds of records, each with some harm."""
    problems = []
    for harms in _rounds(world.random):
        partitions = {**world.partitions, LATER: 2}
        sending = threading.Thread(target=sender.send, args=(partitions, world.random.randint(5, 30)))
        sending.start()
        for harm in harms:
            if harm is World.recreate_origin:
                sending.join(PATIENCE_S)
            world.done.append(f"{time.strftime('%H:%M:%S')} {harm.__name__}")
            harm(world)
        sending.join(PATIENCE_S)
        assert not sending.is_alive(), "sends are neither acknowledged nor refused"
        if world.random.random() < 0.3:
            problems += world.finish_commands()
    return problems + world.finish_commands()


def _rounds(random_: random.Random) -> Iterator[Sequence[Callable[[World], None]]]:
    """What is done in each round."""
    if not SEEDS and not FULL:
        yield from USUAL
        return
    for _ in range(ROUNDS):
        yield random_.choices(list(HARMS), list(HARMS.values()), k=random_.randint(1, 3))


def _wait(
    world: World, groups: list[Group], sender: Sender, story: Story, archive: Archive, rules: Rules
) -> Verdict:
    """Until everything has come that must come, and nothing waits."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        archive.look()
        story.live, story.settled = world.live(), world.settled()
        waiting = world.waiting()
        verdict = Verdict(rules, groups, sender.ids, story).judge(archive.read())
        lag = world.lag()
        if not verdict.missing and not waiting and not lag:
            return verdict
        if time.monotonic() > deadline:
            what = {"missing": verdict.missing[:10], "waiting": waiting, "lag": lag}
            raise AssertionError(json.dumps(what, indent=1, default=repr))
        time.sleep(0.3)


def _check(data: Path) -> str:
    """What is wrong with the files."""
    command = [sys.executable, "-m", "pykbroker", "log", "check", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout[-2000:] + done.stderr[-2000:]
