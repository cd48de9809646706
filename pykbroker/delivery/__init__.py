"""Failed deliveries, delays and dead letters: what the broker keeps back, and gives when it is due.

Layer: above :mod:`pykbroker.forwarding`, below :mod:`pykbroker.apis`.

==================== =======================================================================
``service``          everything of one broker, and its life
``topics``           retry and dead-letter topics are made when they are needed

*Reading commits: nacks, and orders about dead letters*

``nacks``            what commit metadata asks for
``commits``          what is refused before a commit is appended
``following``        one lane per partition of the offsets topic; ``follower`` is a lane at work
``commit_queue``     the commits in order, not all of them in memory
``understanding``    what a commit means to the lane: an order (``orders``), or nothing
``steps``            one step of a lane: which records go where (``draft``, ``taking``, ``selecting``,
                     ``places``); for dead letters ``letter_steps``
``standing_aside``   orders that cannot be finished yet
``counted``          which offsets count as nacked or settled already
``reports``          what the lanes say: log lines, counters, events

*A flow, from arriving to leaving*

``flows``            the flows of a broker; ``flow_lane`` one partition of one, ``equipping`` its parts
``arriving``         what arrived is decided about, once, and held
``deciders``         the decision as a held record; ``deciding`` the rules, ``asking`` the policy
``headers``          the headers that failed deliveries carry
``held``             the form of a held record
``index``            when what is due; ``indexing`` fills it, ``sqlite_index`` keeps it (``sqlite_file``)
``schedule``         what is next; ``released`` which records are gone; ``alarm`` wakes the lane
``releasing``        what is due is moved; ``destinations`` says where to
``tidying``          what is released goes from the index, and from the held logs by ``settling``
                     (``settled`` says which records, ``settled_worker`` is the process that rewrites)
``dropping``         an empty flow without a retry topic is deleted
``retention``        what may go of a retry topic

*What others ask*

``letters``          which dead letters are settled, and where they may go back to
``returning``        letters on their way back
``inquiring``        what the lanes that follow commits know; ``waiting`` what a flow does
``flow_statistics``  gauges and counters
``telling``          events for plugins
==================== =======================================================================

Cores are sans-IO: time is an argument of ``deciding``, ``schedule``, ``retention``, ``steps``.
"""
