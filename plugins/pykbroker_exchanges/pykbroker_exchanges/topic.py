"""``topic``: patterns of words between dots; ``*`` is exactly one word, ``#`` any number, also none.

As RabbitMQ splits keys: ``a..b`` has an empty word in the middle, ``.`` two empty words, and the empty
key no word at all (so that ``#`` matches it and ``*`` does not).  A pattern may have any number of
``#``; ``*`` and ``#`` inside a longer word are letters like others.

All patterns together are a trie, which is walked with a set of places at once (a nondeterministic
automaton).  The sets that occur are remembered as states of a deterministic one, built while it runs:
then a word costs one dictionary lookup, however many patterns there are.  Words that no pattern of a
state names all lead to one other state, so that the number of different words does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

from pykbroker import Binding, RoutingContext
from pykbroker_exchanges._arguments import refuse_arguments

REMEMBERED = 1_000_000
"""Places in all states together after which they are forgotten: in the order of 100 MB, and only
patterns with many ``#`` get anywhere near it."""


def split(key: str) -> list[str]:
    """The words of a routing key or pattern."""
    return key.split(".") if key else []


class _Place:
    """A node of the trie.  ``any_number``: it was reached by ``#``, and stays for any further word."""

    __slots__ = ("any_number", "bindings", "hash", "star", "words")

    def __init__(self, *, any_number: bool = False) -> None:
        self.any_number = any_number
        self.words: dict[str, _Place] = {}
        self.star: _Place | None = None
        self.hash: _Place | None = None
        self.bindings: list[Binding] = []

    def child(self, word: str) -> _Place:
        if word == "*":
            if self.star is None:
                self.star = _Place()
            return self.star
        if word == "#":
            if self.hash is None:
                self.hash = _Place(any_number=True)
            return self.hash
        return self.words.setdefault(word, _Place())


class _State:
    """A set of places.  ``named`` are the words that lead on from one of them alone."""

    __slots__ = ("bindings", "by_word", "named", "other", "places")

    def __init__(self, places: frozenset[_Place]) -> None:
        self.places = places
        self.bindings = tuple(binding for place in places for binding in place.bindings)
        self.named = frozenset().union(*(place.words for place in places))
        self.by_word: dict[str, _State] = {}
        self.other: _State | None = None


class _Automaton:
    key_only = True

    def __init__(self, bindings: Sequence[Binding], *, remembered: int = REMEMBERED) -> None:
        root = _Place()
        for binding in bindings:
            place = root
            for word in split(binding.key):
                place = place.child(word)
            place.bindings.append(binding)
        self._limit = remembered
        self._states: dict[frozenset[_Place], _State] = {}
        self._size = 0
        self._first = self._state({root})

    def match(self, ctx: RoutingContext) -> Sequence[Binding]:
        state = self._first
        for word in split(ctx.routing_key):
            following = state.by_word.get(word)
            if following is None:
                following = self._follow(state, word)
            state = following
            if not state.places:
                return ()
        return state.bindings

    def _follow(self, state: _State, word: str) -> _State:
        """The state after ``word``, which the state may not have met yet."""
        if word in state.named:
            found = state.by_word[word] = self._step(state, word)
            return found
        if state.other is None:
            state.other = self._step(state, word)
        return state.other

    def _step(self, state: _State, word: str) -> _State:
        reached: set[_Place] = set()
        for place in state.places:
            following = place.words.get(word)
            if following is not None:
                reached.add(following)
            if place.star is not None:
                reached.add(place.star)
            if place.any_number:
                reached.add(place)
        return self._state(reached)

    def _state(self, reached: set[_Place]) -> _State:
        todo = list(reached)
        while todo:  # "#" may stand for no word at all
            beyond = todo.pop().hash
            if beyond is not None and beyond not in reached:
                reached.add(beyond)
                todo.append(beyond)
        places = frozenset(reached)
        found = self._states.get(places)
        if found is None:
            found = _State(places)
            size = len(places) + len(found.named) + 1
            if self._size + size > self._limit and self._states:
                self._restart()
            self._size += size
            self._states[places] = found
        return found

    def _restart(self) -> None:
        """Forget all states but the first, and where each leads."""
        for state in self._states.values():
            state.by_word, state.other = {}, None  # or the first would keep them all
        self._states = {self._first.places: self._first}
        self._size = len(self._first.places) + len(self._first.named)


class Topic:
    """The exchange type ``topic``."""

    def validate(self, binding: Binding) -> None:
        """Any key is a pattern; no arguments."""
        refuse_arguments("topic", binding)

    def compile(self, bindings: Sequence[Binding]) -> _Automaton:
        """An automaton of all patterns."""
        return _Automaton(bindings)
