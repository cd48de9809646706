"""To which names settings send dead letters, whether there is such a topic or not."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pykbroker.catalog.image import Image
from pykbroker.config import templates


class DeadLetterTargets:
    """Those that are not one group's on one topic: these have a role, and need no name.

    Templates that several use are kept by what stands before the first brace, and the length of that: each
    topic may have one of its own, and names are asked about all the time.
    """

    def __init__(self, topics: Collection[str], given: Iterable[str]) -> None:
        """``given`` are values of the setting, of topics with their name filled in."""
        self._topics = topics
        self._names: set[str] = set()
        self._shared: dict[int, dict[str, list[str]]] = {}
        for value in {each.strip() for each in given}:
            if "{" not in value:
                self._names.add(value)
            elif not templates.is_per_group(value):
                beginning, _, _ = value.partition("{")
                self._shared.setdefault(len(beginning), {}).setdefault(beginning, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._names or any(
            self._gives(template, name)
            for size, by_beginning in self._shared.items()
            for template in by_beginning.get(name[:size], ())
        )

    def _gives(self, template: str, name: str) -> bool:
        """Whether the name is that of a template with ``{topic}`` or ``{group}`` in it, but not both."""
        if "{group}" in template:
            return templates.found(template, "", name) is not None
        origin = templates.found(template.replace("{topic}", "{group}"), "", name)
        return origin in self._topics


def targets_of(image: Image, setting: str, everywhere: Iterable[str]) -> DeadLetterTargets:
    """All topics' values of ``setting``, and those of broker and groups, which hold ``everywhere``."""
    of_topics = (
        template.replace("{topic}", topic.name)
        for topic in image.topics.values()
        if (template := topic.overrides.get(setting, "")) and not templates.is_per_group(template)
    )
    return DeadLetterTargets(image.topics, [*everywhere, *of_topics])
