"""Lists by metadata and tags, filters that combine, and cursors that belong to one list."""

from __future__ import annotations

import base64
import itertools
import random
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from assets.models import Asset
from tests.api.conftest import make_file, make_folder

BIG = 2**63 + 1  # no float tells it from its neighbour


def listed(client: Client, query: str = "") -> Any:
    response = client.get(f"/api/assets{query}")
    assert response.status_code == 200, response.content
    return response.json()


def names(client: Client, query: str = "") -> str:
    return " ".join(asset["name"] for asset in listed(client, query)["assets"])


@pytest.fixture
def library(owner: User) -> dict[str, Asset]:
    folder = make_folder(owner, "f")
    values: dict[str, dict[str, Any]] = {
        "a": {"metadata": {"seed": 42, "cfg": 7, "model": "flux", "ok": True}, "tags": ("red", "big")},
        "b": {"metadata": {"seed": "42", "cfg": 7.5, "model": "Flux"}, "tags": ("red",), "parent": folder},
        "c": {"metadata": {"seed": 42.0, "cfg": -1e3, "ok": False}, "workflow_id": "w", "job_id": "j"},
        "d": {"metadata": {"seed": BIG, "cfg": "8", "list": [1], "none": None}, "workflow_id": "w", "parent": folder},
        "e": {"metadata": {"seed": BIG + 1, "über": "ß", "": 1}, "tags": ("Red", "", "red,big")},
    }
    made = {name: make_file(owner, name, name.encode(), **details) for name, details in values.items()}
    return made | {"f": folder}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("meta.seed=42", "a b c"),
        ("meta.seed=42.0", "a b c"),
        ("meta.seed=4.2e1", "a b c"),
        ("meta.seed=042", "a b c"),
        (f"meta.seed={BIG}", "d"),
        (f"meta.seed={BIG + 1}", "e"),
        ("meta.cfg=7", "a"),
        ("meta.cfg=8", "d"),
        ("meta.cfg__gte=7", "a b"),
        ("meta.cfg__gt=7", "b"),
        ("meta.cfg__lte=7", "a c"),
        ("meta.cfg__lt=-999.5", "c"),
        ("meta.cfg__gte=7&meta.cfg__lt=7.5", "a"),
        ("meta.cfg__gte=7&meta.cfg=7.5", "b"),
        ("meta.model=flux", "a"),
        ("meta.model=fl%25", ""),
        ("meta.model=", ""),
        ("meta.ok=true", "a"),
        ("meta.ok=false", "c"),
        ("meta.ok__gte=0", ""),
        ("meta.list=1", ""),
        ("meta.none=null", ""),
        (f"meta.{quote('über')}={quote('ß')}", "e"),
        ("meta.missing=1", ""),
        ("tag=red", "a b"),
        ("tag=Red", "e"),
        ("tag=big", "a"),
        ("tag=red,big", "e"),
        ("tag=meta.seed", ""),
        ("tag=red&meta.seed=42&meta.cfg__gt=7", "b"),
        ("tag=red&parent_id=1", "a"),
        ("tag=red&parent_id={f}", "b"),
        ("workflow_id=w&meta.seed__gte=43", "d"),
        ("workflow_id=w&job_id=j&meta.seed=42&content_type=text", "c"),
        ("workflow_id=w&job_id=j&meta.seed=42&content_type=image", ""),
        ("meta.seed=42&order=-created", "c b a"),
        ("meta.seed=42&order=name", "a b c"),
        ("tag=red&order=-size", "b a"),
        ("meta.cfg__gte=7&order=-created", "b a"),
    ],
)
def test_list_is_narrowed_by_what_assets_are_said_to_be(
    client: Client, library: dict[str, Asset], query: str, expected: str
) -> None:
    assert names(client, "?" + query.format(f=library["f"].pk.hex)) == expected


def test_list_by_attributes_shows_nothing_of_others(client: Client, owner: User, other: User) -> None:
    make_file(other, "theirs", metadata={"seed": 1}, tags=("x",), workflow_id="w")
    make_file(owner, "mine", metadata={"seed": 1}, tags=("x",), workflow_id="w")
    for query in ("?meta.seed=1", "?meta.seed__gte=1", "?tag=x", "?tag=x&workflow_id=w", "?content_type=text"):
        assert names(client, query) == "mine"


def test_list_by_attributes_leaves_out_what_is_trashed_or_expired(client: Client, owner: User) -> None:
    for name in ("kept", "trashed", "expired"):
        make_file(owner, name, name.encode(), metadata={"seed": 1})
    Asset.objects.filter(name="trashed").update(trashed_at=timezone.now())
    Asset.objects.filter(name="expired").update(expires_at=timezone.now() - timedelta(seconds=1))
    for query in ("?meta.seed=1", "?meta.seed__gte=0", "?meta.seed=1&content_type=text"):
        assert names(client, query) == "kept"


@pytest.mark.parametrize(
    ("few", "many"), [(0, 0), (0, 5000), (2, 9), (5000, 5000)], ids=["walked", "short", "mixed", "gathered"]
)
@pytest.mark.parametrize("order", ["created", "-created", "name", "-size"])
def test_pages_of_every_combination_hold_what_python_finds(
    client: Client, owner: User, monkeypatch: pytest.MonkeyPatch, order: str, few: int, many: int
) -> None:
    """However a page is found, it holds the same; a walk that is bounded sees 16 of 25 assets."""
    monkeypatch.setattr("assets.services.pages.FEW", few)
    monkeypatch.setattr("assets.services.pages.MANY", many)
    monkeypatch.setattr("assets.services.pages.WINDOW", 1)
    monkeypatch.setattr("assets.services.pages.WIDER", 1)
    folder, chance = make_folder(owner, "folder"), random.Random(7)  # the same at each run
    for number in range(24):
        make_file(
            owner, f"n{chance.randrange(6)}", bytes([number]) * chance.randrange(3), tags=("t",) * chance.randrange(2),
            parent=folder if chance.randrange(2) else None, workflow_id="w" * chance.randrange(2),
            metadata={"cfg": chance.randrange(4)},
        )  # fmt: skip
    parts = [
        ("parent_id", folder.pk.hex),
        ("workflow_id", "w"),
        ("tag", "t"),
        ("meta.cfg__gte", "2"),
        ("meta.cfg", "1"),
    ]
    for count in range(1, 5):
        for asked in itertools.combinations([*parts, ("content_type", "text")], count):
            query = urlencode([*asked, ("order", order), ("page_size", "3")])
            assert pages(client, query) == [asset.pk.hex for asset in expected(asked, order)], query


def pages(client: Client, query: str) -> list[str]:
    """Follow the cursors to the end."""
    found, cursor = [], ""
    while True:
        page = listed(client, f"?{query}&cursor={cursor}")
        found += [asset["id"] for asset in page["assets"]]
        cursor = page["next"]
        if not cursor:
            return found


def expected(asked: tuple[tuple[str, str], ...], order: str) -> list[Asset]:
    """Do what the list does, with no index at all."""
    met = {
        "parent_id": lambda a, v: a.parent_id is not None and a.parent_id.hex == v,
        "workflow_id": lambda a, v: a.workflow_id == v,
        "tag": lambda a, v: v in a.tags,
        "meta.cfg__gte": lambda a, v: a.metadata.get("cfg", -1) >= int(v),
        "meta.cfg": lambda a, v: a.metadata.get("cfg", -1) == int(v),
        "content_type": lambda a, v: a.content_type.startswith(v),
    }
    rows = [a for a in Asset.objects.order_by("pk") if all(met[name](a, value) for name, value in asked)]
    sort: dict[str, Any] = {
        "created": lambda a: a.pk.int,
        "-created": lambda a: -a.pk.int,
        "name": lambda a: (a.name_folded, a.pk.int),
        "-size": lambda a: (a.size is None, -(a.size or 0), -a.pk.int),
    }
    return sorted(rows, key=sort[order])


@pytest.mark.parametrize(
    ("query", "statements"),
    [
        ("?tag=x", 1),
        ("?meta.cfg=1", 1),
        ("?meta.cfg__gte=0", 2),
        ("?content_type=text", 2),
        ("?workflow_id=w&tag=x&meta.cfg__gte=0&meta.cfg=1&content_type=text", 2),
        ("?workflow_id=w&order=name", 2),
        ("?tag=x&order=-size", 3),
    ],
)
@pytest.mark.parametrize("count", [1, 40])
def test_list_costs_a_constant_number_of_statements(
    client: Client, owner: User, django_assert_num_queries: Any, query: str, statements: int, count: int
) -> None:
    for number in range(count):
        make_file(owner, str(number), bytes([number]), tags=("x",), metadata={"cfg": 1}, workflow_id="w")
    with django_assert_num_queries(statements):
        assert len(listed(client, query)["assets"]) == count


@pytest.mark.parametrize(("many", "statements"), [(2, 5), (5000, 5)], ids=["walked on", "gathered"])
@pytest.mark.parametrize("size", [1, 5])
def test_page_that_a_walk_does_not_fill_costs_a_bounded_number_of_statements(
    client: Client,
    owner: User,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: Any,
    size: int,
    many: int,
    statements: int,
) -> None:
    """Many have each of two values, and the few that have both come last."""
    monkeypatch.setattr("assets.services.pages.WINDOW", 1)
    monkeypatch.setattr("assets.services.pages.WIDER", 1)
    monkeypatch.setattr("assets.services.pages.FEW", 2)
    monkeypatch.setattr("assets.services.pages.MANY", many)
    for number in range(4 * 6 + size):
        both = number >= 4 * 6
        cfg, tags = (1 if both or number % 2 else 0), (("x",) if both or not number % 2 else ())
        make_file(owner, f"{number:02}", bytes([number]), tags=tags, metadata={"cfg": cfg})
    with django_assert_num_queries(statements):
        assert len(listed(client, f"?tag=x&meta.cfg=1&order=name&page_size={size}")["assets"]) == size


# --- cursors -------------------------------------------------------------------------------------


def first_cursor(client: Client, query: str) -> str:
    cursor: str = listed(client, f"?page_size=1&{query}")["next"]
    assert cursor
    return cursor


@pytest.fixture
def twins(owner: User, other: User) -> None:
    for person in (owner, other):
        for number in range(3):
            make_file(person, f"{number}", bytes([number]), tags=("x",), metadata={"seed": 1}, workflow_id="w")


@pytest.mark.parametrize(
    ("made_by", "used_by"),
    [
        ("order=created", "order=-created"),
        ("order=name", "order=created"),
        ("order=-size", "order=name"),
        ("", "workflow_id=w"),
        ("workflow_id=w", ""),
        ("workflow_id=w", "job_id=w"),
        ("tag=x", "meta.seed=1"),
        ("meta.seed=1", "meta.seed__gte=1"),
        ("meta.seed__gt=0", "meta.seed__gte=0"),
        ("content_type=text", "content_type=tex"),
        ("", "parent_id=1"),
    ],
)
def test_cursor_of_another_list_is_refused(client: Client, twins: None, made_by: str, used_by: str) -> None:
    cursor = first_cursor(client, made_by)
    assert client.get(f"/api/assets?{made_by}&cursor={cursor}").status_code == 200
    response = client.get(f"/api/assets?{used_by}&cursor={cursor}")
    assert (response.status_code, response.json()["detail"][:8]) == (400, "cursor: ")


def test_cursor_of_another_user_is_refused(client: Client, twins: None, other: User, owner: User) -> None:
    theirs = Client()
    theirs.force_login(other)
    cursor = first_cursor(theirs, "")
    assert theirs.get(f"/api/assets?cursor={cursor}").status_code == 200
    assert client.get(f"/api/assets?cursor={cursor}").status_code == 400


def test_cursor_goes_on_with_another_page_size(client: Client, twins: None) -> None:
    assert names(client, f"?page_size=2&cursor={first_cursor(client, '')}") == "1 2"


def test_cursor_of_a_search_is_none_of_a_list(client: Client, owner: User) -> None:
    for number in range(2):
        make_file(owner, f"name {number}", bytes([number]))
    cursor = client.get("/api/assets/search?query=name&page_size=1").json()["next_cursor"]
    assert client.get(f"/api/assets?cursor={cursor}").status_code == 400


def test_cursor_lives_on_when_the_secret_key_is_replaced(client: Client, twins: None, settings: Any) -> None:
    cursor = first_cursor(client, "")
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another"
    assert names(client, f"?cursor={cursor}") == "1 2"
    settings.SECRET_KEY_FALLBACKS = []
    assert client.get(f"/api/assets?cursor={cursor}").status_code == 400


def test_cursor_with_any_bit_changed_is_refused(client: Client, twins: None) -> None:
    cursor = first_cursor(client, "order=name")
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    for place in range(len(raw)):
        changed = raw.copy()
        changed[place] ^= 1
        text = base64.urlsafe_b64encode(changed).decode().rstrip("=")
        assert client.get(f"/api/assets?order=name&cursor={text}").status_code == 400


@pytest.mark.parametrize("path", ["/api/assets?", "/api/assets/search?query=ab&"])
@pytest.mark.parametrize(
    "cursor",
    ["x", "%00", "ä", "!!!!", "=", "A" * 20_000, "W10", "bnVsbA", "..", "%ff", "a b", "-" * 64, "\u0661" * 8],
    ids=range(13),
)
def test_cursor_that_is_garbage_is_refused(client: Client, path: str, cursor: str) -> None:
    response = client.get(f"{path}cursor={cursor}")
    assert (response.status_code, response.json()["detail"][:8]) == (400, "cursor: ")
