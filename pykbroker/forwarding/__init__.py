"""Records that the broker itself moves: exchanges, and topics with a partitioner.

An *ingress partition* is a partition of an exchange, or of the hidden log that stands in front of a topic
with ``pykbroker.partitioner``.  What arrives there is acknowledged at once and moved afterwards, by one
*lane* per ingress partition, in three steps that survive a crash at any point:

1. *decide* (:mod:`~pykbroker.forwarding.deciding`): where the next records go; plugins are asked once;
2. *plan* (:mod:`~pykbroker.forwarding.plan`, :mod:`~pykbroker.forwarding.machine`): the decision becomes
   records of ``__pykbroker_forward``, below the high watermark before anything is moved;
3. *execute* (:mod:`~pykbroker.forwarding.executing`): idempotent batches with planned sequences are
   appended to the targets; what is there already, by the target's last sequence, is not appended again.

:mod:`~pykbroker.forwarding.runner` runs a lane, whatever it does: what is decided is the business of a
:class:`~pykbroker.forwarding.work.Work`.  That of exchanges and partitioners is in
:mod:`~pykbroker.forwarding.lane`, their service in :mod:`~pykbroker.forwarding.service`; others start lanes
by its :mod:`~pykbroker.forwarding.engine`.
"""
