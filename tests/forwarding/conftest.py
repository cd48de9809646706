"""A data directory with partitions that are closed at the end."""

from __future__ import annotations

from tests.partitions.conftest import bench

__all__ = ["bench"]
