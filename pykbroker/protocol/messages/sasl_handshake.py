"""SaslHandshake (API key 17): request and response, versions 0 to 1."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, array, int16, string


class SaslHandshakeRequest(Message, key=17, versions=(0, 1)):
    """Body of a SaslHandshake request."""

    mechanism: str = string()


class SaslHandshakeResponse(Message, key=17, versions=(0, 1)):
    """Body of a SaslHandshake response."""

    error_code: int = int16()
    mechanisms: list[str] = array("string")
