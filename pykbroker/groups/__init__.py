"""Classic consumer groups and committed offsets.

The cores are sans-IO: :mod:`~pykbroker.groups.machine` is one partition's worth of groups on the
coordinator runtime, built from pure deciders (:mod:`~pykbroker.groups.joining`,
:mod:`~pykbroker.groups.syncing`, :mod:`~pykbroker.groups.leaving`, ...).  Only
:mod:`~pykbroker.groups.service` waits for anything.
"""
