"""A data directory with partitions that are closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.partitions.kit import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Partitions in ``tmp_path``, opened."""
    bench = Bench(tmp_path)
    await bench.open()
    yield bench
    await bench.partitions.shutdown()
