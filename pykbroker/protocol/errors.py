"""The one error of the sans-IO protocol room."""

from __future__ import annotations


class ProtocolError(Exception):
    """The peer sent bytes that are no Kafka message of the stated API and version.

    Nothing on the connection can be trusted after it: the only answer is to close.
    """
