"""Fetch http(s) addresses that workflows name: bounded in bytes, time and redirects, and never into private networks.

A name is resolved once, each of its addresses is judged, and the connection goes to a judged address itself: a name
that changes its mind in between (DNS rebinding) gains nothing. Every redirect starts anew. No proxy is used.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, TypeAlias, cast
from urllib.parse import quote, urljoin, urlsplit

from assets.workflows.errors import RefusedUriError
from storagecache.errors import BackendUnavailableError, ObjectNotFoundError, ObjectTooLargeError, StorageError
from storagecache.storages.durable import disk_errors

MAX_REDIRECTS: Final = 5
IDLE_SECONDS: Final = 10.0  # to connect, and between two pieces of an answer
MAX_URL: Final = 8192  # characters

_BLOCK: Final = 256 << 10  # bytes
_IN_MEMORY: Final = 1 << 20  # bytes; a larger download lies in a temporary file
_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_GONE: Final = frozenset({404, 410})
_PATH_SAFE: Final = "%/:;=&?~+!$,'@()*[]"
_PRIVATE: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",  # RFC 6890; Python before 3.12 takes parts for global
            "192.88.99.0/24",  # RFC 7526: relays of 6to4, given up
            "168.63.129.16/32",  # the host of an Azure machine, which answers it alone
            "64:ff9b:1::/48",  # RFC 8215: NAT64 of a network of one's own
            "fec0::/10",  # RFC 3879: site-local, given up
            "3fff::/20",  # RFC 9637: documentation
            "5f00::/16",  # RFC 9602: segments of a network of one's own
        ),
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """What a fetch may cost: bytes, seconds for all of it, and the private networks that it may enter."""

    max_bytes: int
    seconds: float
    allowed: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole download, rewound; closing the stream frees it. `content_type` is what the server said."""

    stream: BinaryIO
    content_type: str


@dataclass(frozen=True, slots=True)
class _Target:
    url: str
    scheme: str
    host: str
    port: int
    selector: str  # path and query, as requested

    @property
    def shown(self) -> str:
        """The address without its query, which may hold a signature."""
        return f"{self.scheme}://{self.host}:{self.port}{self.selector.partition('?')[0]}"

    @property
    def host_header(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"


def fetch(url: str, limits: FetchLimits) -> Fetched:
    """Download an address whole.

    Raises:
        RefusedUriError: no http(s) URL, a target that is not allowed, or too many redirects.
        ObjectNotFoundError: 404 or 410.
        ObjectTooLargeError: more bytes than the limit.
        BackendUnavailableError: no answer, another status, a cut body, or out of time.
        StorageFullError: no room for the download here.
    """
    deadline = time.monotonic() + limits.seconds
    for _ in range(MAX_REDIRECTS + 1):
        target = _target(url)
        answer = _ask(target, limits, deadline)
        if isinstance(answer, Fetched):
            return answer
        url = urljoin(target.url, answer)
    raise RefusedUriError(f"More than {MAX_REDIRECTS} redirects; the last one was {target.shown}.")


def is_allowed(address: Address, allowed: tuple[Network, ...]) -> bool:
    """Tell whether a connection may go to this address: it is public, or of an allowed network.

    An IPv6 address that carries an IPv4 address (mapped, 6to4, Teredo, NAT64) is judged by that, too.
    """
    meant = _meant(address)
    if any(each in network for each in meant for network in allowed if each.version == network.version):
        return True
    return all(_is_public(each) for each in meant)


def _is_public(address: Address) -> bool:
    is_private = any(address in network for network in _PRIVATE if network.version == address.version)
    return address.is_global and not (address.is_multicast or address.is_reserved or is_private)


def _meant(address: Address) -> list[Address]:
    """List the address and what it carries; a mapped one is the IPv4 address that it carries."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    teredo = address.teredo[1] if address.teredo else None
    nat64 = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    return [address, *(each for each in (address.sixtofour, teredo, nat64) if each is not None)]


def _target(url: str) -> _Target:
    if len(url) > MAX_URL or any(letter <= " " or letter in "\\\x7f" for letter in url):
        raise RefusedUriError("Not a URL: too long, or with blanks, backslashes or control characters.")
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError as error:  # UnicodeError is one
        raise RefusedUriError("Not a URL: its host or port has no meaning.") from error
    if parts.scheme not in _PORTS or not host or port == 0:
        raise RefusedUriError("Only http:// and https:// addresses of a host are fetched.")
    if parts.username is not None or parts.password is not None:
        raise RefusedUriError("An address with a user name or password is not fetched.")
    path = quote(parts.path or "/", safe=_PATH_SAFE)
    query = f"?{quote(parts.query, safe=_PATH_SAFE)}" if parts.query else ""
    return _Target(url, parts.scheme, host, port or _PORTS[parts.scheme], path + query)


def _ask(target: _Target, limits: FetchLimits, deadline: float) -> Fetched | str:
    """Make one request; gives the download, or where a redirect leads."""
    try:
        with _connected(target, limits, deadline) as sock:
            answer = _answer(target, sock, limits)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, StorageError):
            raise
        if time.monotonic() >= deadline:
            raise _late(target, limits) from error
        raise BackendUnavailableError(f"{target.shown} does not answer: {error or type(error).__name__}.") from error
    if time.monotonic() >= deadline and isinstance(answer, Fetched):  # cut: what ends with the connection looks whole
        answer.stream.close()
        raise _late(target, limits)
    return answer


def _answer(target: _Target, sock: socket.socket, limits: FetchLimits) -> Fetched | str:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = sock
    headers = {"Host": target.host_header, "Accept-Encoding": "identity", "Connection": "close"}
    connection.request("GET", target.selector, headers=headers | {"User-Agent": "nodetool-storage"})
    with connection.getresponse() as answer:
        location = answer.getheader("Location")
        if answer.status in _REDIRECTS and location:
            return location
        if answer.status in _GONE:
            raise ObjectNotFoundError(f"Nothing at {target.shown} ({answer.status}).")
        if answer.status != http.client.OK:
            raise BackendUnavailableError(f"{target.shown} answered {answer.status}.")
        return Fetched(_body(target, answer, limits), answer.getheader("Content-Type", ""))


def _body(target: _Target, answer: http.client.HTTPResponse, limits: FetchLimits) -> BinaryIO:
    announced = answer.length
    if announced is not None and announced > limits.max_bytes:
        raise _too_large(target, limits)
    kept = cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115  # the caller closes it
    try:
        size = _copy(target, answer, kept, limits)
        if announced is not None and size != announced:
            raise BackendUnavailableError(f"{target.shown} ended after {size} of {announced} bytes.")
        kept.seek(0)
    except BaseException:
        kept.close()
        raise
    return kept


def _copy(target: _Target, answer: http.client.HTTPResponse, kept: BinaryIO, limits: FetchLimits) -> int:
    size = 0
    while block := answer.read1(_BLOCK):
        size += len(block)
        if size > limits.max_bytes:
            raise _too_large(target, limits)
        with disk_errors("Cannot keep the download"):
            kept.write(block)
    return size


@contextlib.contextmanager
def _connected(target: _Target, limits: FetchLimits, deadline: float) -> Iterator[socket.socket]:
    """Connect to a judged address until the deadline; for https the certificate is checked against the name."""
    if time.monotonic() >= deadline:
        raise _late(target, limits)
    plain = _first_connection(target, _judged(target, limits), deadline)
    with _dressed(target, plain) as sock, _cut_at(deadline, sock):
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()  # it may come byte by byte, too
        yield sock


def _dressed(target: _Target, plain: socket.socket) -> socket.socket:
    """Put TLS around a connection, without a word said yet."""
    if target.scheme == "http":
        return plain
    try:
        context = ssl.create_default_context()
        return context.wrap_socket(plain, server_hostname=target.host, do_handshake_on_connect=False)
    except BaseException:
        plain.close()
        raise


def _judged(target: _Target, limits: FetchLimits) -> list[str]:
    """Resolve a host and keep the addresses that may be connected to."""
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = dict.fromkeys(str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found)
    judged = [each for each in addresses if is_allowed(ipaddress.ip_address(each), limits.allowed)]
    if not judged:
        raise RefusedUriError(
            f"{target.host} is on this machine or in a private network, where workflows may not fetch from. "
            "DOWNLOAD_ALLOWED_NETWORKS names exceptions."
        )
    return judged


def _first_connection(target: _Target, addresses: list[str], deadline: float) -> socket.socket:
    for left, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
        try:
            seconds = min(IDLE_SECONDS, max(0.01, deadline - time.monotonic()))
            return socket.create_connection((address, target.port), timeout=seconds)
        except OSError:
            if not left:
                raise
    raise AssertionError("no addresses")


@contextlib.contextmanager
def _cut_at(deadline: float, sock: socket.socket) -> Iterator[None]:
    """Cut the connection when time is up, whatever step waits on it: a sender of single bytes beats any timeout."""
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, [sock])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's own, which would disturb the reading thread


def _too_large(target: _Target, limits: FetchLimits) -> ObjectTooLargeError:
    return ObjectTooLargeError(f"{target.shown} has more than {limits.max_bytes} bytes (DOWNLOAD_MAX_BYTES).")


def _late(target: _Target, limits: FetchLimits) -> BackendUnavailableError:
    return BackendUnavailableError(f"{target.shown} took longer than {limits.seconds:g} s (DOWNLOAD_TIMEOUT).")
