"""One POST to a webhook, in a thread: it blocks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit


def post(url: str, body: Mapping[str, object], timeout_s: float) -> None:
    """Send ``body`` as JSON; each wait for the network takes at most ``timeout_s``.

    Raises OSError where that fails, also for an answer that is not from 200 to 299, and ValueError for a
    URL that makes no sense.
    """
    parts = urlsplit(url)
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=timeout_s)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        headers = {"Content-Type": "application/json", "User-Agent": "pykbroker"}
        connection.request("POST", path, json.dumps(body).encode(), headers)
        answer = connection.getresponse()
        answer.read(4096)
        if not 200 <= answer.status < 300:
            raise OSError(f"the webhook answered {answer.status} {answer.reason}")
    except HTTPException as error:
        raise OSError(f"the webhook does not speak HTTP: {error!r}") from error
    finally:
        connection.close()


def shown(url: str) -> str:
    """What a log may say of a webhook: paths and queries of such URLs are often secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"
