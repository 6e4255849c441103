"""Counting failures, per caller and per window."""

from __future__ import annotations

from typing import Any

import pytest

from assets.throttle import Throttle, network

pytestmark = pytest.mark.usefixtures("no_failures_yet")
THREE = Throttle("three", failures=3, window=60)


def test_throttle_blocks_after_its_failures_and_only_that_caller() -> None:
    for _ in range(3):
        assert not THREE.is_blocked("a", "1")
        THREE.note_failure("a", "1")
    assert THREE.is_blocked("a", "1")
    assert not THREE.is_blocked("a", "2")
    assert not THREE.is_blocked("a1", "")  # the parts do not run together
    assert not Throttle("other", failures=3, window=60).is_blocked("a", "1")


def test_throttle_opens_when_the_window_of_the_first_failure_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    start = 1_000_000.0
    monkeypatch.setattr("time.time", lambda: start)
    for _ in range(3):
        THREE.note_failure("a")
    monkeypatch.setattr("time.time", lambda: start + 59)
    THREE.note_failure("a")
    assert THREE.is_blocked("a")
    monkeypatch.setattr("time.time", lambda: start + 61)
    assert not THREE.is_blocked("a")


@pytest.mark.parametrize("caller", ["", "\ud800", "x" * 100_000, "a b\n\0"])
def test_throttle_takes_any_name(caller: str, recwarn: Any) -> None:
    THREE.note_failure(caller)
    assert not THREE.is_blocked(caller)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::1", "::/64"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("unknown", ""),
        ("", ""),
    ],
)
def test_network_of_an_address_is_one_customer(address: str, expected: str) -> None:
    assert network(address) == expected
