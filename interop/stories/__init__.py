"""Stories: what a real client does, told as a function from a bootstrap address to an outcome.

An outcome is plain data (numbers, strings, bytes, lists, tuples, dicts) that two brokers must agree on, so it
holds no topic names, ids, ports or times of day. A story asserts for itself only what makes its outcome worth
comparing."""

from collections.abc import Callable
from typing import Any

Story = Callable[[str], Any]

#: All stories, by name, in the order in which their modules were imported.
STORIES: dict[str, Story] = {}


def story(tell: Story) -> Story:
    """Registers a story under the names of its module and function."""
    name = f"{tell.__module__.rpartition('.')[2]}-{tell.__name__}"
    assert name not in STORIES, f"two stories named {name}"
    STORIES[name] = tell
    return tell
