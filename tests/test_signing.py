"""The signer by itself: what a link grants, until when, with which keys, and what it refuses."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import RequestFactory

from assets.serving.signed import claims_to_be_signed
from assets.signing import MAX_LIFE, Grant, Keyring, is_signed, keyring, sign, verify, window

PROJECT = Path(__file__).resolve().parent.parent
NOW = 1_800_000_000
OBJECT = "0190aabbccdd7eef8a00112233445566"
KEYS = keyring("a secret key of at least fifty characters, for tests only")
KEY = "a folder/bild ä.png"


def signed(
    *,
    keys: Keyring = KEYS,
    key: str = KEY,
    object_id: str = OBJECT,
    expires_at: int = NOW + 3600,
    download: bool = False,
) -> str:
    return sign(keys, bucket="assets", key=key, object_id=object_id, expires_at=expires_at, download=download)


def granted(
    query: str, *, keys: Keyring = KEYS, bucket: str = "assets", key: str = KEY, now: float = NOW
) -> Grant | None:
    return verify(query, keys=keys, bucket=bucket, key=key, now=now)


@pytest.mark.parametrize("download", [False, True])
def test_link_grants_what_was_signed(download: bool) -> None:
    assert granted(signed(download=download)) == Grant(OBJECT, NOW + 3600, download)


@pytest.mark.parametrize(
    ("bucket", "key"),
    [
        ("temp", KEY),
        ("assets", "a folder/bild a.png"),
        ("assets", KEY + " "),
        ("assets", "bild ä.png"),
        ("assets", KEY.upper()),
    ],
)
def test_link_at_another_address_grants_nothing(bucket: str, key: str) -> None:
    assert granted(signed(), bucket=bucket, key=key) is None


def test_facts_do_not_run_into_each_other() -> None:
    """A line break in a key, which keys may not have, must still not make one link out of another."""
    assert granted(signed(key=f"x\n{KEY}"), key=KEY) is None


@pytest.mark.parametrize(
    ("change", "by"),
    [
        ("expires=1800003600", "expires=1800003601"),
        ("expires=1800003600", "expires=01800003600"),
        ("expires=1800003600", "expires=+1800003600"),
        ("expires=1800003600", "expires=1_800_003_600"),
        ("expires=1800003600", "expires=-1"),
        ("expires=1800003600", "expires=99999999999"),
        ("expires=1800003600", "expires=" + "9" * 5000),
        ("expires=1800003600", "expires=1800003600&expires=1800003600"),
        ("expires=1800003600", "expires=1800003600\n"),
        ("expires=1800003600&", ""),
        ("expires", "Expires"),
        ("expires", "%65xpires"),
        (f"object={OBJECT}", f"object={OBJECT.upper()}"),
        (f"object={OBJECT}", f"object={OBJECT[:-1]}7"),
        (f"object={OBJECT}", "object="),
        ("expires=", "download=1&expires="),
        ("expires=", "download=0&expires="),
        ("&signature", "&x=1&signature"),
        ("&", ";"),
        ("&", "&&"),
    ],
)
def test_link_with_a_changed_parameter_grants_nothing(change: str, by: str) -> None:
    query = signed()
    assert change in query
    assert granted(query.replace(change, by, 1)) is None


@pytest.mark.parametrize("suffix", ["&", "&x=1", "&download=1", "&signature=", "=", "%00", "\n", " ", "#"])
def test_link_with_something_added_grants_nothing(suffix: str) -> None:
    assert granted(signed() + suffix) is None


def test_link_with_reordered_parameters_grants_nothing() -> None:
    assert granted("&".join(reversed(signed().split("&")))) is None


def test_download_cannot_be_taken_off_a_link() -> None:
    assert granted(signed(download=True).removeprefix("download=1&")) is None


def test_every_flipped_bit_of_a_link_is_refused() -> None:
    query = signed().encode()
    for position in range(len(query)):
        for bit in range(8):
            changed = bytearray(query)
            changed[position] ^= 1 << bit
            assert granted(changed.decode("latin-1")) is None


def test_ten_thousand_mutated_links_are_all_refused() -> None:
    source = random.Random(7)
    alphabet = "0123456789abcdefABCDEF&=%+-_./?#;~ \x00ä"
    for _ in range(10_000):
        query = list(signed(download=source.random() < 0.5))
        for _ in range(source.randint(1, 3)):
            position = source.randrange(len(query))
            how = source.randrange(4)
            if how == 0:
                query[position] = source.choice(alphabet.replace(query[position], ""))
            elif how == 1:
                query.insert(position, source.choice(alphabet))
            elif how == 2:
                del query[position]
            else:
                query[position:] = query[position:][::-1]
        mutated = "".join(query)
        assert mutated in {signed(), signed(download=True)} or granted(mutated) is None


@pytest.mark.parametrize(
    ("expires_at", "now", "is_valid"),
    [
        (NOW + 1, NOW, True),
        (NOW, NOW, False),
        (NOW, NOW - 0.001, True),
        (NOW - 1, NOW, False),
        (NOW + MAX_LIFE, NOW, True),
        (NOW + MAX_LIFE + 1, NOW, False),
    ],
    ids=["left", "ended", "just-before", "past", "longest", "far-future"],
)
def test_link_is_valid_until_it_expires(expires_at: int, now: float, is_valid: bool) -> None:
    """A far future is refused even when signed: whatever signed it was a fault."""
    assert (granted(signed(expires_at=expires_at), now=now) is not None) == is_valid


def test_link_of_an_earlier_key_is_valid_while_that_is_a_fallback() -> None:
    old, new = "the old key of this service, long enough", "the new key of this service, long enough"
    query = signed(keys=keyring(old))
    assert granted(query, keys=keyring(new, (old,))) is not None
    assert granted(query, keys=keyring(new)) is None
    assert keyring(new, (old,)).current == keyring(new).current


def test_link_that_names_another_key_is_refused() -> None:
    old, new = "the old key of this service, long enough", "the new key of this service, long enough"
    ring = keyring(new, (old,))
    query = signed(keys=ring).replace(keyring(new).current.name, keyring(old).current.name)
    assert granted(query, keys=ring) is None


def test_keys_in_text_show_no_secret() -> None:
    assert "secret=" not in repr(KEYS)
    assert "SECRET KEY" not in repr(keyring("SECRET KEY"))


@pytest.mark.parametrize("name", ["expires", "key_id", "object", "signature"])
def test_request_with_one_parameter_of_a_signature_claims_to_be_signed(name: str) -> None:
    assert is_signed(["download", name])


def test_request_for_a_download_does_not_claim_to_be_signed() -> None:
    assert not is_signed(["download", "v"])


@pytest.mark.parametrize(
    ("now", "life", "expected"),
    [
        (NOW, 3600, (NOW, NOW + 900)),
        (NOW + 899.9, 3600, (NOW, NOW + 900)),
        (NOW + 900, 3600, (NOW + 900, NOW + 1800)),
        (NOW + 31, 60, (NOW + 30, NOW + 45)),
        (NOW + 5, 1, (NOW + 5, NOW + 6)),
    ],
    ids=["start", "end", "next", "short-life", "one-second"],
)
def test_window_of_a_moment(now: float, life: int, expected: tuple[int, int]) -> None:
    assert window(now, life=life, longest=900) == expected


def test_two_processes_sign_the_same_link() -> None:
    program = (
        "from assets.signing import keyring, sign\n"
        f"print(sign(keyring('k' * 50), bucket='assets', key='a.png', object_id='{OBJECT}', expires_at={NOW}))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=PROJECT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    here = sign(keyring("k" * 50), bucket="assets", key="a.png", object_id=OBJECT, expires_at=NOW)
    assert [run.strip() for run in runs] == [here, here]


@pytest.mark.parametrize(
    ("query", "claims", "parsed"),
    [
        ("", False, False),
        ("download=1", False, True),
        (signed(), True, False),
        (signed(download=True), True, False),
        ("%65xpires=1", True, True),
        ("x=1&signature", True, True),
    ],
    ids=["none", "download", "link", "download link", "encoded", "no value"],
)
def test_claim_to_be_signed_is_found_and_a_link_is_not_parsed(query: str, claims: bool, parsed: bool) -> None:
    request = RequestFactory().get(f"/storage/assets/a?{query}")
    assert claims_to_be_signed(request) is claims
    assert ("GET" in vars(request)) is parsed
