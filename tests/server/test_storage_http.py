"""/storage/ on the real service, byte by byte over sockets: keys as they are sent, bodies cut anywhere, connections
that must stay in step, and many clients at one object."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest

from tests.server.processes import until
from tests.server.service import Service, serving
from tests.server.wire import CutError, request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watches the processes through /proc")

LIMIT = 4 << 20  # MAX_UPLOAD_BYTES of the service under test
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service"), MAX_UPLOAD_BYTES=str(LIMIT)) as running:
        yield running


def digest(body: bytes) -> str:
    return f"Repr-Digest: sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()}"'


def together(count: int, work: Callable[[int], int]) -> list[int]:
    """Run `work` in `count` threads that start at one moment."""
    barrier = threading.Barrier(count)

    def run(number: int) -> int:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


# --- keys ------------------------------------------------------------------------------------------

KEYS = [
    b"plain.txt",
    b"Plain.txt",
    b"a/b/c.png",
    b"a" * 300 + b"/x",
    b"x" * 1024,
    "🎉/ümläut €.png".encode(),
    "e\u0301".encode(),  # decomposed
    "\u00e9".encode(),  # composed
    "\u212b".encode(),  # the Ångström sign, which normalises to a letter
    b"100%",
    b"%FF",
    b"%2F",
    b"%252F",
    b"a%2Fb",
    b"a b",
    b"a+b",
    b"a?b",
    b"a#b",
    b"a?download=1",
    b"a&b=c;d",
    b"a\\b",
    b"a:b",
    b"CON",
    b"nul.txt",
    b"COM1/aux",
    b"trailing.",
    b"trailing ",
    b" leading",
    b"...",
    b"..a",
    b".hidden",
    b"~",
    b"-rf",
    b"a/.../b",
    b"temp/x",
    b"'\"<>|*",
    "\u202efdp.exe".encode(),
    "\u200b".encode(),
    "\u0080".encode(),
]


def test_keys_round_trip_and_none_aliases_another(service: Service) -> None:
    for number, key in enumerate(KEYS):
        answer = service.ask("PUT", f"/storage/temp/{quote_from_bytes(key)}", body=b"%d" % number)
        assert answer.status == 201, key
    for number, key in enumerate(KEYS):
        every_byte = "".join(f"%{byte:02x}" for byte in key)
        for target in (quote_from_bytes(key), quote_from_bytes(key, safe=""), every_byte):
            assert service.ask("GET", f"/storage/temp/{target}").body == b"%d" % number, target
    for key in KEYS:
        assert service.ask("DELETE", f"/storage/temp/{quote_from_bytes(key)}").status == 204


@pytest.mark.parametrize(
    "target",
    [
        "", "/", "/x", "x/", "a//b", ".", "..", "../x", "a/..", "a/./b", "%2e", "%2E%2e", "a%2f%2e%2e%2fb", "a%2F",
        "%2Fx", "%00", "a%00b", "%01", "%0a", "%0D%0Ax", "%1f", "%7F", "%FF", "a%ffb", "%C3", "%C3%28", "%ED%A0%80",
        "%C0%AF", "%F5%80%80%80", "x" * 1025, "x" * 10_000, "%C3%A9" * 513,
    ],
    ids=lambda target: target[:20] or "empty",
)  # fmt: skip
def test_key_refused_on_every_method_and_address(service: Service, target: str) -> None:
    for prefix in ("/storage/assets/", "/storage/temp/", "/api/storage/", "/api/storage/temp/"):
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            answer = service.ask(method, prefix + target, body=b"x" if method == "PUT" else None)
            assert answer.status in ((400, 414) if len(target) > 1024 else (400,)), (method, prefix)
    assert service.ask("GET", "/storage/assets/" + target).detail()


def test_percent_sign_stays_apart_from_the_byte_it_names(service: Service) -> None:
    assert service.ask("PUT", "/storage/assets/p%25FF", body=b"sign").status == 201
    assert service.ask("GET", "/storage/assets/p%FF").status == 400
    assert service.ask("GET", "/storage/assets/p%25ff").status == 404
    assert service.ask("GET", "/storage/assets/%70%25%46%46").body == b"sign"


def test_location_of_a_put_leads_to_the_object(service: Service) -> None:
    answer = service.ask("PUT", "/api/storage/temp/%F0%9F%8E%89%25%3F%23%20+%2Fx", body=b"here")
    assert service.ask("GET", answer.headers["location"]).body == b"here"


# --- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [(), ("Content-Length: 0",), (CHUNKED, digest(b""))], ids=["none", "zero", "chunked"]
)
def test_put_of_nothing_makes_an_empty_object(service: Service, headers: tuple[str, ...]) -> None:
    with service.connected() as wire:
        wire.send(request("PUT", "/storage/temp/empty", *headers) + (b"0\r\n\r\n" if CHUNKED in headers else b""))
        assert wire.answer().status in (200, 201)
        assert wire.ask("GET", "/storage/temp/empty").body == b""
        assert wire.ask("HEAD", "/storage/temp/empty").headers["content-length"] == "0"


def test_put_chunked_with_digest_is_stored(service: Service) -> None:
    with service.connected() as wire:
        wire.send(request("PUT", "/storage/assets/chunked", CHUNKED, digest(b"abcdef")))
        wire.send(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
        assert wire.answer().status == 201
        assert wire.ask("GET", "/storage/assets/chunked").body == b"abcdef"


def test_put_chunked_without_digest_is_411_and_nothing_is_stored(service: Service) -> None:
    with service.connected() as wire:
        wire.send(request("PUT", "/storage/assets/c411", CHUNKED) + b"3\r\nabc\r\n0\r\n\r\n")
        assert wire.answer().status == 411
    assert service.ask("GET", "/storage/assets/c411").status == 404


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        (("Content-Length: 100",), b"x" * 50),
        (("Content-Length: 100",), b""),
        (("Content-Length: 600000",), b"x" * 599_999),
        ((CHUNKED, digest(b"abcdef")), b"3\r\nabc\r\n"),
        ((CHUNKED, digest(b"abcdef")), b"6\r\nabc"),
        ((CHUNKED, digest(b"abcdef")), b"3\r\nabc\r\nZZ\r\n"),
        (("Content-Length: 100", CHUNKED), b"3\r\nabc\r\n0\r\n\r\n"),
    ],
    ids=["half", "none", "last byte", "between chunks", "inside a chunk", "bad chunk", "both headers"],
)
@pytest.mark.parametrize("end", ["half-close", "close", "reset"])
def test_put_cut_changes_nothing(service: Service, headers: tuple[str, ...], sent: bytes, end: str) -> None:
    service.ask("PUT", "/storage/assets/cut", body=b"old")
    with service.connected() as wire:
        wire.send(request("PUT", "/storage/assets/cut", *headers) + sent)
        if end == "half-close":
            wire.socket.shutdown(socket.SHUT_WR)
            with contextlib.suppress(CutError):
                assert wire.answer().status in (400, 411)
        elif end == "reset":
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: not _staged(service))
    assert service.ask("GET", "/storage/assets/cut").body == b"old"


def _staged(service: Service) -> list[str]:
    """Name the staged files that processes hold open (they have no name in any folder)."""
    return [target for target in _open_files(service) if "(deleted)" in target and "/assets/" in target]


def _open_files(service: Service) -> list[str]:
    found = []
    for process in service.members():
        for link in Path(f"/proc/{process}/fd").iterdir():
            try:
                found.append(os.readlink(link))
            except OSError:
                continue
    return found


def test_put_slow_byte_by_byte_is_stored(service: Service) -> None:
    with service.connected() as wire:
        for byte in request("PUT", "/storage/assets/slow", "Content-Length: 30") + b"x" * 30:
            wire.send(bytes((byte,)))
        assert wire.answer().status == 201


REFUSALS = [
    ("PUT", "/storage/assets/r", (f"Content-Length: {LIMIT + 1}",), 413),
    ("PUT", "/storage/assets/r", (f"Content-Length: {1 << 63}",), 413),
    ("PUT", "/storage/assets/r", ("Content-Length: 1000000", 'If-Match: "x"'), 412),
    ("PUT", "/storage/assets/r", ("Content-Length: 1000000", "Content-Range: bytes 0-1/2"), 400),
    ("PUT", "/storage/assets/%00", ("Content-Length: 1000000",), 400),
    ("PUT", "/storage/assets/r", ("Content-Length: 1000000", "Via: 1.1 proxy"), 401),
    ("PUT", "/storage/assets/r", ("Content-Length: 1000000", "Origin: http://evil.example"), 403),
    ("PUT", "/storage/assets/r", ("Content-Length: 1000000", "Host: evil.example"), 400),
    ("PUT", "/storage/assets/r", ("Content-Length: 1000000", "Content-MD5: nonsense"), 400),
    ("POST", "/storage/assets/r", ("Content-Length: 1000000",), 405),
    ("PUT", "/storage/other/r", ("Content-Length: 1000000",), 404),
    ("PUT", "/storage/assets/r", (CHUNKED,), 411),
]
refusals = pytest.mark.parametrize(
    ("method", "target", "headers", "status"), REFUSALS, ids=lambda value: str(value)[:40]
)


@refusals
def test_refusal_comes_before_the_body_is_read(
    service: Service, method: str, target: str, headers: tuple[str, ...], status: int
) -> None:
    with service.connected() as wire:
        wire.send(request(method, target, "Expect: 100-continue", *headers))
        assert wire.head() == status  # and no 100 before it


@refusals
def test_connection_after_a_refused_body_is_in_step_or_closed(
    service: Service, method: str, target: str, headers: tuple[str, ...], status: int
) -> None:
    smuggled = request("DELETE", "/storage/assets/kept", "Content-Length: 0")
    service.ask("PUT", "/storage/assets/kept", body=b"kept")
    with service.connected() as wire:
        wire.send(request(method, target, *headers) + smuggled)
        answer = wire.answer()
        assert answer.status == status
        answer.detail()
    assert service.ask("GET", "/storage/assets/kept").body == b"kept"


def test_refused_big_body_the_answer_arrives(service: Service) -> None:
    with service.connected() as wire:
        wire.send(request("PUT", "/storage/assets/r", f"Content-Length: {50 << 20}"))
        try:
            for _ in range(50):
                wire.send(bytes(1 << 20))
        except ConnectionError:
            pass
        assert wire.answer().status == 413


def test_chunked_body_over_the_limit_is_413(service: Service) -> None:
    with service.connected() as wire:
        wire.send(request("PUT", "/storage/assets/r", CHUNKED, digest(b"")))
        block = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        wire.send_until_refused(block * 5)
        assert wire.answer().status == 413
    assert service.ask("GET", "/storage/assets/r").status == 404


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "identity"])
def test_other_transfer_coding_is_refused(service: Service, coding: str) -> None:
    with service.connected() as wire:
        wire.send(request("PUT", "/storage/assets/coded", f"Transfer-Encoding: {coding}", digest(b"")) + b"0\r\n\r\n")
        assert wire.answer().status in (400, 501)
    assert service.ask("GET", "/storage/assets/coded").status == 404


def test_expect_of_an_accepted_body_is_granted(service: Service) -> None:
    with service.connected() as wire:
        wire.send(request("PUT", "/storage/assets/expected", "Expect: 100-continue", "Content-Length: 3"))
        assert wire.head() == 100
        wire.send(b"abc")
        assert wire.answer().status == 201


# --- connections ------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(service: Service) -> None:
    target = "/storage/assets/piped"
    with service.connected() as wire:
        body = b"first"
        wire.send(request("PUT", target, "Content-Length: 5") + body + request("GET", target) + request("HEAD", target))
        wire.send(request("GET", target, f"If-None-Match: {etag(body)}") + request("DELETE", target))
        wire.send(request("HEAD", target) + request("GET", target))
        answers = [wire.answer(m) for m in ("PUT", "GET", "HEAD", "GET", "DELETE", "HEAD", "GET")]
    assert [answer.status for answer in answers] == [201, 200, 200, 304, 204, 404, 404]
    assert answers[1].body == body


def test_bodyless_answers_carry_no_length_but_head_that_of_get(service: Service) -> None:
    target = "/storage/assets/lengths"
    with service.connected() as wire:
        tag = wire.ask("PUT", target, body=b"0123456789").etag
        assert "content-length" not in wire.ask("GET", target, f"If-None-Match: {tag}").headers
        for headers in ((), ('If-Match: "x"',), ("Host: evil.example",)):
            head, get = wire.ask("HEAD", target, *headers), wire.ask("GET", target, *headers)
            assert head.status == get.status
            assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.body))
        gone = wire.ask("DELETE", target)
        assert gone.status == 204
        assert {"content-length", "content-type", "transfer-encoding"}.isdisjoint(gone.headers)


def test_get_with_a_body_leaves_the_connection_in_step(service: Service) -> None:
    service.ask("PUT", "/storage/assets/bodied", body=b"here")
    with service.connected() as wire:
        assert wire.ask("GET", "/storage/assets/bodied", body=b"GET / HTTP/1.1\r\n\r\n").body == b"here"
        with contextlib.suppress(CutError, BrokenPipeError):  # closed is fine too
            assert wire.ask("GET", "/storage/assets/bodied").body == b"here"


def test_header_of_a_condition_that_is_no_ascii_does_not_count_as_absent(service: Service) -> None:
    service.ask("PUT", "/storage/assets/ascii", body=b"here")
    assert service.ask("PUT", "/storage/assets/ascii", "If-Match: \xff", body=b"x").status == 412
    assert service.ask("PUT", "/storage/assets/ascii", "If-None-Match: \xff", body=b"x").status == 412
    assert service.ask("PUT", "/storage/assets/ascii", "Content-MD5: \xff", body=b"x").status == 400
    assert service.ask("PUT", "/storage/temp/ascii", "X-Expires-In: \xff", body=b"x").status == 400
    assert service.ask("GET", "/storage/assets/ascii").body == b"here"


def test_truncated_object_ends_the_connection(service: Service) -> None:
    body = os.urandom(1 << 20)
    service.ask("PUT", "/storage/assets/torn", body=body)
    path = _file_of(service, len(body))
    path.chmod(0o644)
    os.truncate(path, 600_000)
    for headers in ((), ("Range: bytes=100-",), ("Range: bytes=0-1,700000-700001",)):
        with service.connected() as wire, pytest.raises(CutError):
            wire.ask("GET", "/storage/assets/torn", *headers)
    path.unlink()
    assert service.ask("GET", "/storage/assets/torn").status == 404
    assert service.ask("GET", "/storage/assets/torn", "Range: bytes=0-1,3-4").status == 404


def _file_of(service: Service, size: int) -> Path:
    found = [path for path in service.assets.rglob("*") if path.is_file() and path.stat().st_size == size]
    assert len(found) == 1
    return found[0]


def test_readers_who_hang_up_leave_nothing_open(service: Service) -> None:
    service.ask("PUT", "/storage/assets/left", body=os.urandom(LIMIT))
    for headers in ((), ("Range: bytes=0-2000000,2000001-3000000",)):
        for _ in range(20):
            with service.connected() as wire:
                wire.send(request("GET", "/storage/assets/left", *headers))
                assert wire.head() in (200, 206)
    until(lambda: not [name for name in _open_files(service) if str(service.assets) in name])


# --- many at once -----------------------------------------------------------------------------------


def test_readers_during_replacements_see_whole_bodies_only(service: Service) -> None:
    target = "/storage/assets/hot"
    bodies = [bytes((number,)) * (300_000 + number) for number in range(51)]
    known = {etag(body): body for body in bodies}
    service.ask("PUT", target, body=bodies[0])
    done = threading.Event()

    def read(_: int) -> int:
        count = 0
        with service.connected() as wire:
            while not done.is_set():
                answer = wire.ask("GET", target)
                assert answer.status == 200
                assert known[answer.etag] == answer.body
                count += 1
        return count

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read, number) for number in range(8)]
        try:
            statuses = [service.ask("PUT", target, body=body).status for body in bodies[1:]]
        finally:
            done.set()
        assert statuses == [200] * 50
        assert all(reader.result() for reader in readers)
    assert service.ask("GET", target).etag == etag(bodies[-1])


def test_racers_to_create_one_wins(service: Service) -> None:
    statuses = together(
        16, lambda n: service.ask("PUT", "/storage/assets/race", "If-None-Match: *", body=b"%d" % n).status
    )
    assert sorted(statuses) == [201] + [412] * 15


def test_racers_to_replace_one_wins_each_round(service: Service) -> None:
    target = "/storage/assets/rounds"
    tag = service.ask("PUT", target, body=b"start").etag
    for round_ in range(5):
        current = f"If-Match: {tag}"
        statuses = together(8, lambda n: service.ask("PUT", target, current, body=b"%d %d" % (round_, n)).status)  # noqa: B023
        assert sorted(statuses) == [200] + [412] * 7
        tag = service.ask("HEAD", target).etag


def test_racers_to_put_without_condition_all_succeed_and_one_stays(service: Service) -> None:
    target = "/storage/assets/free"
    bodies = [b"%d" % number * 1000 for number in range(16)]
    statuses = together(16, lambda n: service.ask("PUT", target, body=bodies[n]).status)
    assert sorted(statuses) == [200] * 15 + [201]
    answer = service.ask("GET", target)
    assert answer.body in bodies
    assert answer.etag == etag(answer.body)


def test_racers_to_delete_one_wins(service: Service) -> None:
    service.ask("PUT", "/storage/assets/doomed", body=b"x")
    statuses = together(8, lambda n: service.ask("DELETE", "/storage/assets/doomed").status)
    assert sorted(statuses) == [204] + [404] * 7


# --- tokens, full disks -------------------------------------------------------------------------------


def test_token_mode_lets_in_by_token_only(tmp_path: Path) -> None:
    with serving(tmp_path, AUTH_PROVIDER="token") as service:
        made = service.manage("token", "create", "admin")
        token = next(word for word in made.split() if word.startswith("nts_"))
        bearer = f"Authorization: Bearer {token}"
        assert service.ask("PUT", "/storage/assets/x", body=b"x").status == 401
        assert service.ask("PUT", "/storage/assets/x", bearer, body=b"x").status == 201
        assert service.ask("GET", "/storage/assets/x").status == 404
        assert service.ask("GET", "/storage/assets/x", bearer).body == b"x"
        assert service.ask("GET", "/storage/assets/x", "Authorization: Bearer wrong").status == 401
        assert service.ask("DELETE", "/storage/assets/x").status == 401


@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_full_disk_is_507_and_old_object_stays(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        with serving(tmp_path / "service", ASSET_FOLDER=str(small / "assets")) as service:
            service.ask("PUT", "/storage/assets/x", body=b"old")
            answer = service.ask("PUT", "/storage/assets/x", body=bytes(8 << 20))
            assert answer.status == 507
            answer.detail()
            assert service.ask("GET", "/storage/assets/x").body == b"old"
            assert service.ask("PUT", "/storage/assets/y", body=bytes(1 << 20)).status == 201
    finally:
        subprocess.run(["umount", str(small)], check=True)
