"""What a client of the views sees in the end: redirects followed, parts of several ranges taken apart."""

from __future__ import annotations

import email
import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.test import Client


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers by lower-case name, and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def detail(self) -> str:
        """Give the text of an error, which must be JSON that is never stored."""
        import json

        assert self.headers["content-type"] == "application/json"
        assert self.headers["cache-control"] == "no-store"
        assert int(self.headers["content-length"]) == len(self.body)
        error: dict[str, Any] = json.loads(self.body)
        assert error.keys() == {"detail"}
        return str(error["detail"])

    def parts(self) -> list[tuple[str, str, bytes]]:
        """Take a multipart body apart: Content-Type, Content-Range and bytes of each part (RFC 2046)."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + self.body)
        assert not message.defects
        return [(p["Content-Type"], p["Content-Range"], p.get_payload(decode=True)) for p in message.get_payload()]


def send(client: Client, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """Make one request; header names are written with underscores. A body brings its Content-Length along."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    content_type = fields.pop("content-type", "application/octet-stream")
    response = client.generic(method, path, body, content_type, headers=fields)
    return Answer(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, _body(response)
    )


def fetch(client: Client, path: str, **headers: str) -> Answer:
    """GET, and go with the same headers where a redirect leads."""
    answer = send(client, "GET", path, **headers)
    if answer.status != 302:
        return answer
    assert answer.headers["cache-control"] == "private, no-store"
    return _ask_s3(answer.headers["location"], {name.replace("_", "-"): value for name, value in headers.items()})


def _ask_s3(url: str, headers: dict[str, str]) -> Answer:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=20)
    try:
        connection.request("GET", f"{address.path}?{address.query}", headers=headers)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def _body(response: Any) -> bytes:
    try:
        return b"".join(response.streaming_content) if response.streaming else bytes(response.content)
    finally:
        response.close()
