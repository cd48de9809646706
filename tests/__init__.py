"""Tests of pykbroker."""
