"""Oracles: kafka-python is imported here, once, since it warns about itself on newer Pythons."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka  # noqa: F401
