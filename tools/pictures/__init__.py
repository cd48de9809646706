"""The pictures in docs/img: ``python -m tools.pictures`` draws them all again.

They are made of what they show: the rooms of the import contract, the figures of the benchmarks, what
the retry policies and the exchange types themselves answer.  A test holds every file to what this would
draw, and every picture to having no text that runs into another or out of its box.

``album`` lists them, ``svg`` is what they are drawn with, ``measuring`` says how wide texts
are, and the other modules are a picture each.
"""
