"""Fixtures for the tests of APIs on partitions."""

from __future__ import annotations

from tests.partitions.conftest import bench

__all__ = ["bench"]
