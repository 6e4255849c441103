"""Hundreds of slow readers in a process of their own, so that their work does not delay the client that measures."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

READ_EVERY = 0.2  # seconds between two reads of one reader
RECEIVE_BUFFER = 16 * 1024  # small, so that the kernel does not swallow the body for the reader


@contextmanager
def slow_readers(port: int, path: str, *, count: int, rate: int) -> Iterator[Connection]:
    """Keep `count` readers busy at `rate` bytes a second each; they begin before the block does.

    Gives the pipe on which, after the block, the number of readers still served arrives.
    """
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(there, port, path, count, rate))
    process.start()
    here.recv()
    try:
        yield here
    finally:
        process.join(10)
        if process.is_alive():
            process.kill()


def served(readers: Connection) -> int:
    """End the readers and give how many of them were being served until now."""
    readers.send("stop")
    count: int = readers.recv()
    return count


def _run(pipe: Connection, port: int, path: str, count: int, rate: int) -> None:
    asyncio.run(_read_all(pipe, port, path, count, rate))


async def _read_all(pipe: Connection, port: int, path: str, count: int, rate: int) -> None:
    received = [0] * count
    tasks = [asyncio.create_task(_read(received, index, port, path, rate)) for index in range(count)]
    await asyncio.sleep(2)
    pipe.send("reading")
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    alive = sum(not task.done() and size > 0 for task, size in zip(tasks, received, strict=True))
    pipe.send(alive)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _read(received: list[int], index: int, port: int, path: str, rate: int) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        await _drain(client, received, index, rate)


async def _drain(client: socket.socket, received: list[int], index: int, rate: int) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    while data := await loop.sock_recv(client, int(rate * READ_EVERY)):
        received[index] += len(data)
        await asyncio.sleep(max(0.0, begin + received[index] / rate - loop.time()))
