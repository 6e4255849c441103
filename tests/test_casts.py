"""Casts: the text of one variable as a value, or a ValueError that says what would have been right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from storagecache import casts


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("15m", 900),
        ("24h", 86400),
        ("30d", 2592000),
        ("2W", 1209600),
        (" 5 m ", 300),
        ("0", 0),
    ],
)
def test_duration_with_a_unit_gives_seconds(text: str, seconds: int) -> None:
    assert casts.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1.5h", "-1", "+1", "1_0", "1y", "1h30m", "²", "٣h", "36501d", "1" * 13])
def test_duration_out_of_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a duration"):
        casts.duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("512K", 512 << 10),
        ("256 MiB", 256 << 20),
        ("5G", 5 << 30),
        ("5gb", 5 << 30),
        ("1t", 1 << 40),
        ("7B", 7),
    ],
)
def test_size_with_a_unit_gives_bytes(text: str, size: int) -> None:
    assert casts.size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1.5G", "5 X", "1e9", "１", "1048577T", "9" * 19])
def test_size_out_of_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a size"):
        casts.size(text)


@pytest.mark.parametrize(
    ("text", "amount"), [("2g", "2g"), ("512M", "512m"), (" 1.5GB ", "1.5gb"), ("7b", "7b"), ("1048576", "1048576")]
)
def test_memory_is_given_as_engines_read_it(text: str, amount: str) -> None:
    assert casts.memory(text) == amount


@pytest.mark.parametrize("text", ["", "lots", "0", "0.0g", "-1g", "2 g", "2gib", "1e9", ".5g", "2g,", "２g"])
def test_memory_out_of_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an amount of memory such as 512m or 2g"):
        casts.memory(text)


@pytest.mark.parametrize("cast", [casts.life, casts.limit])
def test_zero_where_it_means_nothing_works_is_refused(cast: Callable[[str], int]) -> None:
    assert cast("1") == 1
    with pytest.raises(ValueError, match="at least 1"):
        cast("0")


@pytest.mark.parametrize("text", ["0", "0.0", "-1", "nan", "inf", "1e3", ".5", "1,5"])
def test_decimal_out_of_form_is_refused(text: str) -> None:
    assert casts.decimal(" 2.5 ") == 2.5
    with pytest.raises(ValueError, match="positive number"):
        casts.decimal(text)


def test_names_with_blanks_are_dropped() -> None:
    assert casts.names(" a.example, ,b.example,") == ("a.example", "b.example")


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("cache", (("cache", None),)),
        ("a:1,b:2", (("a", 1), ("b", 2))),
        ("::1", (("::1", None),)),
        ("[::1]", (("::1", None),)),
        ("[fe80::1]:11311", (("fe80::1", 11311),)),
        ("", ()),
    ],
)
def test_servers_of_each_form_are_told_apart(text: str, servers: tuple[tuple[str, int | None], ...]) -> None:
    assert casts.servers(text) == servers


@pytest.mark.parametrize(
    "text", ["a:", ":1", "a:0", "a:65536", "a:b", "a:1:2", "[::1", "[a]:1", "a b", "http://a:1", "/run/x"]
)
def test_servers_out_of_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host or host:port"):
        casts.servers(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("postgres://u:p@h:5432/n", "postgresql://u:p@h:5432/n"),
        ("PostgreSQL://h/n?sslmode=require", "postgresql://h/n?sslmode=require"),
        ("postgres:///n", "postgresql:///n"),
        ("sqlite:////data/a%20b.sqlite3", "sqlite:////data/a b.sqlite3"),
        (" sqlite:///relative.sqlite3 ", f"sqlite:///{Path.cwd()}/relative.sqlite3"),
        ("sqlite:///./a?timeout=5", f"sqlite:///{Path.cwd()}/a"),
    ],
)
def test_database_url_of_each_form_is_made_plain(text: str, url: str) -> None:
    assert casts.database_url(text) == url


@pytest.mark.parametrize(
    ("name", "expected"), [("localhost", True), ("127.1.2.3", True), ("::1", True), ("0.0.0.0", False), ("h", False)]
)
def test_is_loopback_knows_addresses_of_this_machine(name: str, expected: bool) -> None:
    assert casts.is_loopback(name) is expected


def test_networks_of_each_kind_are_read() -> None:
    found = casts.networks("127.0.0.1, 10.0.0.0/8,,fd00::/8")
    assert [str(network) for network in found] == ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"]
    assert casts.networks(" , ") == ()


@pytest.mark.parametrize("text", ["localhost", "10.0.0.1/8", "10.0.0.0/33", "*", "10.0.0"])
def test_networks_out_of_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="networks such as"):
        casts.networks(text)
