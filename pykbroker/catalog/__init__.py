"""What exists: brokers, topics, partitions, settings, blocks of producer ids.

An immutable :class:`~pykbroker.catalog.image.Image`, changed by proposals and announced as deltas.
"""
