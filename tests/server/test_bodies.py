"""What the chosen web server hands to the application, over raw sockets. The upload code is built on these facts: when
an upgrade of the server breaks one of these tests, read docs/decisions/0002-web-server.md first."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.processes import answers, free_port, running, until

CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    number = free_port()
    with running(tmp_path_factory.mktemp("probe"), number, "-m", "tests.server.probe", str(number)):
        until(lambda: answers(number))
        yield number


def talk(port: int, *headers: str, path: str = "/x", bodies: tuple[bytes, ...] = (), cut: bool = False) -> bytes:
    """Send a PUT, piece by piece; with `cut` the client ends its side there. Give all that comes back."""
    head = "\r\n".join((f"PUT {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers, "", ""))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(head.encode("latin-1"))
        for body in bodies:
            client.sendall(body)
        if cut:
            client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def seen(answer: bytes) -> dict[str, Any]:
    """Give what the application saw."""
    result: dict[str, Any] = json.loads(answer.rpartition(b"\r\n\r\n")[2])
    return result


def test_body_cut_with_length_reaches_the_application_as_prefix_without_error(port: int) -> None:
    result = seen(talk(port, "Content-Length: 1000", bodies=(b"x" * 400,), cut=True))
    assert sum(result["sizes"]) == 400
    assert result["environ"]["CONTENT_LENGTH"] == "1000"


@pytest.mark.parametrize(
    "body", [b"10\r\nabc", b"3\r\nabc\r\n", b"3\r\nabc\r\nZZ\r\n"], ids=["inside", "between", "bad"]
)
def test_body_chunked_cut_cannot_be_told_from_a_whole_one(port: int, body: bytes) -> None:
    cut = seen(talk(port, CHUNKED, bodies=(body,), cut=True))
    whole = seen(talk(port, CHUNKED, bodies=(b"3\r\nabc\r\n0\r\n\r\n",)))
    assert cut == whole


def test_body_chunked_is_visible_by_its_header_and_has_no_length(port: int) -> None:
    environ = seen(talk(port, CHUNKED, bodies=(b"3\r\nabc\r\n0\r\n\r\n",)))["environ"]
    assert environ["HTTP_TRANSFER_ENCODING"] == "chunked"
    assert "CONTENT_LENGTH" not in environ


def test_body_with_length_and_chunked_loses_its_length(port: int) -> None:
    result = seen(talk(port, CHUNKED, "Content-Length: 1", bodies=(b"3\r\nabc\r\n0\r\n\r\n",)))
    assert "CONTENT_LENGTH" not in result["environ"]
    assert sum(result["sizes"]) == 3


def test_body_with_two_lengths_is_refused(port: int) -> None:
    assert talk(port, "Content-Length: 1", "Content-Length: 2", bodies=(b"ab",)).startswith(b"HTTP/1.1 400")


def test_body_in_pieces_fills_each_read_but_the_last(port: int) -> None:
    result = seen(talk(port, "Content-Length: 10", "X-Read: 4", bodies=(b"a", b"bcdef", b"ghij")))
    assert result["sizes"] == [4, 4, 2]


def test_expect_continue_of_a_body_that_is_read_is_granted(port: int) -> None:
    answer = talk(port, "Expect: 100-continue", "Content-Length: 3", bodies=(b"abc",))
    assert answer.startswith(b"HTTP/1.1 100")
    assert seen(answer)["sizes"] == [3]


def test_expect_continue_of_a_refused_body_gets_the_refusal_alone(port: int) -> None:
    answer = talk(port, "Expect: 100-continue", "Content-Length: 3", path="/refuse")
    assert answer.startswith(b"HTTP/1.1 200")


def test_path_bytes_arrive_undamaged_as_latin_1(port: int) -> None:
    result = seen(talk(port, "Content-Length: 0", path="/a%FFb%2Fc%25//./..%C3%A9"))
    assert result["environ"]["PATH_INFO"].encode("latin-1") == b"/a\xffb/c%//./..\xc3\xa9"


def test_header_outside_ascii_arrives_empty(port: int) -> None:
    assert seen(talk(port, "If-Match: \xff", "Content-Length: 0"))["environ"]["HTTP_IF_MATCH"] == ""


def test_idle_connections_by_the_hundred_leave_the_server_answering(port: int) -> None:
    idle = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(700)]
    try:
        for client in idle:
            client.sendall(b"PUT /x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert answers(port)
    finally:
        for client in idle:
            client.close()
