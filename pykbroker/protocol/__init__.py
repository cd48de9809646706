"""Sans-IO: bytes to frames to requests and back; one message type per API, a codec per version."""
