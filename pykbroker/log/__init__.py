"""One partition on disk, in Kafka's own format.

===================  =========================================================================
``log``              :class:`~pykbroker.log.log.Log`: opening, appending, rolling
``serving``          reading by offset and by timestamp
``cutting``          taking back the end
``aging``            retention, and putting compacted segments in place
``syncing``          flushing, closing
``examining``        what a read found suspicious: a hole, or an index to be made anew
``state``            what these share
``segment``          one ``.log`` file with its sparse indexes, and the names of its files
``indexes``          the offset index and the time index
``reading``          in one segment: from an offset to whole batches, headers walked on the way
``scan``             which bytes of a file are intact batches (the rules for damage and torn tails)
``recovery``         from the files of a directory to segments that can be used
``holes``            damage that was found, and where it is written down
``timestamps``       in one segment: from a timestamp to an offset
``retention``        which segments may go
``epochs``           leader epochs and their start offsets
``compaction``       of each key the last record: what to rewrite, and the outcome (files in, files out)
``retaining``        which records of a batch compaction keeps
``settling``         records that the broker is done with: what to rewrite of its own logs
``rewriting``        segments read and written by compaction and settling
``cleaner_worker``   compaction in a process of its own
``replacing``        a swap of segments for compacted ones that a crash cannot leave half done
``checkpoints``      the small files of a data directory
``files``            the one door to the file system, and a twin of it that fails on demand
``descriptors``      a bounded number of open files
``check``            everything that is wrong with a log, its indexes and snapshots (``check_caches``)
``report``           what a check found
===================  =========================================================================

Everything here runs in one thread, the loop's, except where a docstring says otherwise.
"""
