"""The way of a record that cannot be processed, with the names that a user sees."""

from __future__ import annotations

from tools.pictures.svg import Picture


def draw() -> Picture:
    """The picture."""
    picture = Picture(
        900,
        552,
        "The way of a record that cannot be processed",
        "The consumer group billing reads the topics orders and orders.billing.retry. A record that fails "
        "it produces to the retry topic or nacks in its commit. Inside the broker it gets to a hidden log, "
        "a policy decides, and it is held until it is due: then it is readable in orders.billing.retry. "
        "After N returns the next failure makes it a dead letter in orders.billing.dlq, which dlq replay "
        "brings back to orders and dlq purge gives up.",
    )
    picture.text(24, 34, "A record that cannot be processed", size=18, bold=True)
    picture.text(
        24, 56, "Blue: topics that you see. Dashed: logs that the broker keeps for itself.", tone="quiet"
    )
    _seen(picture)
    picture.box(76, 268, 800, 118, tone="hidden", dashed=True, frame=True)
    _reported(picture)
    _hidden(picture)
    _dead(picture)
    return picture


def _seen(picture: Picture) -> None:
    picture.label(
        24, 84, 190, 56, [("orders", "name"), ("a topic with a retry policy", "quiet")], tone="user"
    )
    picture.label(
        330,
        84,
        220,
        56,
        [("group billing", "head"), ("your consumer: any Kafka client", "quiet")],
        tone="good",
    )
    picture.label(
        660, 84, 216, 56, [("orders.billing.retry", "name"), ("made by the broker", "quiet")], tone="user"
    )
    picture.line((214, 112), (330, 112), arrow=True)
    picture.text(268, 104, "reads", anchor="middle", size=12, tone="quiet")
    picture.line((660, 112), (550, 112), arrow=True)
    picture.text(608, 104, "reads too", anchor="middle", size=12, tone="quiet")


def _reported(picture: Picture) -> None:
    picture.text(450, 162, "it fails:", size=12, tone="quiet")
    picture.line((440, 140), (440, 170), (206, 170), (206, 184), arrow=True)
    picture.line((440, 140), (440, 184), arrow=True)
    picture.label(
        96,
        184,
        220,
        48,
        [("produce it", "head"), ("to orders.billing.retry", "quiet")],
        tone="good",
        size=12.5,
    )
    picture.label(
        352,
        184,
        188,
        48,
        [("nack it in the commit", "head"), ('{"nack": [5]}', "name")],
        tone="good",
        size=12.5,
    )
    picture.text(334, 212, "or", size=12, tone="quiet", anchor="middle")
    picture.line((206, 232), (206, 290), arrow=True)
    picture.line((440, 232), (440, 256), (206, 256), (206, 290), arrow=True)


def _hidden(picture: Picture) -> None:
    picture.label(
        92,
        290,
        236,
        56,
        [("__pykbroker_delayed_…", "name"), ("what has failed", "quiet")],
        tone="hidden",
        dashed=True,
    )
    picture.label(
        388, 290, 190, 56, [("retry policy", "head"), ("again? when? or dead?", "quiet")], tone="plugin"
    )
    picture.label(
        640,
        290,
        220,
        56,
        [("__pykbroker_held_…", "name"), ("kept until it is due", "quiet")],
        tone="hidden",
        dashed=True,
    )
    picture.line((328, 318), (388, 318), arrow=True)
    picture.line((578, 318), (640, 318), arrow=True)
    said = "inside the broker: on disk, survives restarts and kill -9, nothing is lost or doubled"
    picture.text(92, 372, said, size=12, tone="quiet")
    picture.line((768, 290), (768, 140), arrow=True)
    picture.text(758, 204, "when it is due,", anchor="end", size=12, tone="quiet")
    picture.text(758, 221, "N times at most", anchor="end", size=12, tone="quiet")


def _dead(picture: Picture) -> None:
    picture.line((768, 346), (768, 436), arrow=True)
    picture.text(758, 412, "the failure after that", anchor="end", size=12, tone="quiet")
    picture.label(
        660, 436, 216, 56, [("orders.billing.dlq", "name"), ("dead letters: kept", "quiet")], tone="bad"
    )
    picture.line((660, 464), (48, 464), (48, 140), arrow=True)
    picture.text(76, 455, "pykbroker dlq replay", mono=True)
    picture.text(254, 455, "a new record of orders, its failures counted from 0", size=12, tone="quiet")
    picture.line((768, 492), (768, 520), (556, 520), arrow=True)
    picture.text(548, 525, "pykbroker dlq purge", mono=True, anchor="end")
    picture.text(386, 525, "gives it up", size=12, tone="quiet", anchor="end")
