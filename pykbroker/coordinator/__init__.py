"""The runtime for state machines that live in one partition of an internal topic.

:mod:`~pykbroker.coordinator.machine` says what a machine is, :mod:`~pykbroker.coordinator.shard_log`
what it needs from a log, :mod:`~pykbroker.coordinator.runtime` runs the two together.
"""
