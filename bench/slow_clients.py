"""Hundreds of slow clients in a process of their own, so that their work does not delay the client that measures."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

STEP = 0.2  # seconds between two reads or writes of one client
RECEIVE_BUFFER = 16 * 1024  # bytes; small, so that the kernel does not swallow the body for the reader
ANNOUNCED = 64 << 20  # bytes that a writer says it will send
HEAD_EVERY = 2.0  # seconds between two bytes of a head that never ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How many clients of each kind, and how fast each reads or writes (bytes a second)."""

    readers: int = 0
    writers: int = 0
    heads: int = 0
    rate: int = 50 << 10


@dataclass(frozen=True, slots=True)
class Served:
    """How many of each kind were being served at the end; `heads` counts those that the server still listened to."""

    readers: int
    writers: int
    heads: int


@contextmanager
def slow_clients(port: int, path: str, crowd: Crowd) -> Iterator[Connection]:
    """Keep a crowd busy: readers of `path`, writers of objects in temp, senders of heads. They begin before the block.

    Gives the pipe for `served`.
    """
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(there, port, path, crowd))
    process.start()
    here.recv()
    try:
        yield here
    finally:
        process.join(10)
        if process.is_alive():
            process.kill()


def served(clients: Connection) -> Served:
    """End the crowd and tell how many of it were being served until now."""
    clients.send("stop")
    found: Served = clients.recv()
    return found


def _run(pipe: Connection, port: int, path: str, crowd: Crowd) -> None:
    asyncio.run(_all(pipe, port, path, crowd))


async def _all(pipe: Connection, port: int, path: str, crowd: Crowd) -> None:
    progress = {kind: [0] * number for kind, number in _numbers(crowd).items()}
    kinds = {"readers": _read, "writers": _write, "heads": _send_head}
    tasks = {
        kind: [
            asyncio.create_task(_client(kinds[kind], counts, index, port, path, crowd.rate))
            for index in range(len(counts))
        ]
        for kind, counts in progress.items()
    }
    await asyncio.sleep(2)
    pipe.send("busy")
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    pipe.send(Served(*(_alive(tasks[kind], progress[kind]) for kind in kinds)))
    for task in itertools.chain(*tasks.values()):
        task.cancel()
    await asyncio.gather(*itertools.chain(*tasks.values()), return_exceptions=True)


def _numbers(crowd: Crowd) -> dict[str, int]:
    return {"readers": crowd.readers, "writers": crowd.writers, "heads": crowd.heads}


def _alive(tasks: list[asyncio.Task[None]], counts: list[int]) -> int:
    return sum(not task.done() and count > 0 for task, count in zip(tasks, counts, strict=True))


Talk = Callable[[socket.socket, list[int], int, str, int], Awaitable[None]]


async def _client(talk: Talk, counts: list[int], index: int, port: int, path: str, rate: int) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
        with suppress(ConnectionError):
            await talk(client, counts, index, path, rate)


async def _read(client: socket.socket, counts: list[int], index: int, path: str, rate: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    begin = loop.time()
    while data := await loop.sock_recv(client, int(rate * STEP)):
        counts[index] += len(data)
        await asyncio.sleep(max(0.0, begin + counts[index] / rate - loop.time()))


async def _write(client: socket.socket, counts: list[int], index: int, path: str, rate: int) -> None:
    loop = asyncio.get_running_loop()
    head = f"PUT /storage/temp/slow/{index} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {ANNOUNCED}\r\n\r\n"
    await loop.sock_sendall(client, head.encode())
    block = bytes(max(1, int(rate * STEP)))
    while True:
        await loop.sock_sendall(client, block)
        counts[index] += len(block)
        await asyncio.sleep(STEP)


async def _send_head(client: socket.socket, counts: list[int], index: int, path: str, rate: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ".encode())
    while True:
        await loop.sock_sendall(client, b"x")
        counts[index] += 1
        with suppress(TimeoutError):
            if not await asyncio.wait_for(loop.sock_recv(client, 4096), HEAD_EVERY):
                return
