"""Failed deliveries, delays and dead letters: what the broker keeps back, and gives when it is due.

Layer: above :mod:`pykbroker.forwarding`, below :mod:`pykbroker.apis`.  ``topics`` makes retry and
dead-letter topics.
"""
