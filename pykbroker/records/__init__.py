"""Record batches (format v2): reading, checking, building, compressing them, and producer state.

Sans-IO: bytes, headers and the current time in, decisions out.  Nothing here opens a file or waits.

=================  ===========================================================================
``batch``          the 61-byte header, finding batches in bytes, writing offsets into them
``varint``         zigzag varints
``compression``    gzip, snappy (xerial and raw), lz4, zstd; output always bounded
``decode``         records out of a batch
``build``          a batch out of records
``validate``       what a produced batch must satisfy before it is appended
``walk``           the walk over its records, in slices
``recode``         the changes a broker makes to a produced batch (append time, other codec)
``producers``      idempotence: the state of each producer id in one partition
``snapshot``       that state as Kafka's ``.snapshot`` file
=================  ===========================================================================
"""
