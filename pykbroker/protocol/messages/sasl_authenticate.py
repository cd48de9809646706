"""SaslAuthenticate (API key 36): request and response, versions 0 to 2."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, bytes_, int16, int64, string


class SaslAuthenticateRequest(Message, key=36, versions=(0, 2), flexible=2):
    """Body of a SaslAuthenticate request."""

    auth_bytes: bytes = bytes_()


class SaslAuthenticateResponse(Message, key=36, versions=(0, 2), flexible=2):
    """Body of a SaslAuthenticate response."""

    error_code: int = int16()
    error_message: str | None = string(nullable=0)
    auth_bytes: bytes = bytes_()
    session_lifetime_ms: int = int64(since=1)
