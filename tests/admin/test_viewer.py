"""What the page of an asset shows of its bytes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from assets.admin.ancestry import SMALL, picture_of
from assets.admin.viewer import HEAD, hex_lines, view_of
from assets.media.samples import samples
from assets.models import Derivation
from assets.services.lineage import trace
from tests.admin.conftest import HOSTILE, SVG, MakeAsset
from tests.admin.test_pages import page

ClientOf = Callable[[User], Client]


@pytest.mark.parametrize(
    ("name", "content", "content_type", "kind", "shown"),
    [
        ("a.txt", b"hello", "text/plain", "text", "hello"),
        ("a.html", b"<script>alert(1)</script>", "text/html", "text", "<script>alert(1)</script>"),
        ("a.svg", SVG, "image/svg+xml", "text", SVG.decode()),
        ("a.json", b'{"a":[1]}', "application/json", "text", '{\n  "a": [\n    1\n  ]\n}'),
        ("broken.json", b'{"a":', "application/json", "text", '{"a":'),
        ("deep.json", b"[" * 20_000, "application/json", "text", "[" * 20_000),
        ("a.md", "# Grüße".encode(), "text/markdown", "text", "# Grüße"),
        ("a.bin", b"\x00\x01A", "application/octet-stream", "hex", hex_lines(b"\x00\x01A")),
        ("empty.bin", b"", "application/octet-stream", "hex", ""),
        ("latin.txt", b"caf\xe9", "text/plain", "hex", hex_lines(b"caf\xe9")),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value and len(value) < 12 else "",
)
def test_view_by_kind_is_text_or_hex(
    name: str, content: bytes, content_type: str, kind: str, shown: str, make_asset: MakeAsset, admin_user: User
) -> None:
    viewed = view_of(make_asset(admin_user, name, content, content_type=content_type))
    assert (viewed.kind, viewed.text) == (kind, shown)


def test_table_shows_its_first_rows(make_asset: MakeAsset, client_of: ClientOf, admin_user: User) -> None:
    text = f'a,"{HOSTILE}"\n' + "1,2\n" * 100
    asset = make_asset(admin_user, "t.csv", text.encode().replace(b'""', b'"'), content_type="text/csv")
    viewed = view_of(asset)
    assert (viewed.kind, len(viewed.rows), viewed.is_cut) == ("table", 51, True)
    assert "<img src=x" not in client_of(admin_user).get(page(asset)).content.decode()


def test_long_text_is_cut_between_characters(make_asset: MakeAsset, admin_user: User) -> None:
    viewed = view_of(make_asset(admin_user, "long.txt", "xß".encode() * HEAD, content_type="text/plain"))
    assert (viewed.kind, viewed.is_cut) == ("text", True)
    assert set(viewed.text) == {"x", "ß"}


def test_lost_bytes_are_said_to_be_lost(make_asset: MakeAsset, client_of: ClientOf, admin_user: User) -> None:
    from django.core.files.storage import storages

    asset = make_asset(admin_user, "a.txt", b"x", content_type="text/plain")
    assert asset.object is not None
    storages["assets"].delete(asset.object.key)
    answer = client_of(admin_user).get(page(asset))
    assert answer.status_code == 200
    assert "errornote" in answer.content.decode()


def test_page_of_an_asset_draws_its_lineage_under_the_policy_at_a_constant_cost(
    make_asset: MakeAsset, client_of: ClientOf, admin_user: User
) -> None:
    source, client = make_asset(admin_user, "source.png"), client_of(admin_user)
    costs = []
    for _ in range(2):
        Derivation.objects.create(source=source, asset=make_asset(admin_user, HOSTILE))
    client.get(page(source))
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            answer = client.get(page(source))
        costs.append(len(queries))
        for _ in range(9):
            Derivation.objects.create(source=source, asset=make_asset(admin_user, HOSTILE))
    shown = answer.content.decode()
    assert '<svg class="lineage"' in shown
    assert "<img src=x" not in shown
    assert " style=" not in shown
    assert answer["Content-Security-Policy"].startswith("default-src 'self';")
    assert costs[0] == costs[1]


def test_lineage_goes_three_steps_each_way_and_is_bounded(
    make_asset: MakeAsset, client_of: ClientOf, admin_user: User
) -> None:
    chain = [make_asset(admin_user, f"step {number}.png") for number in range(9)]
    for source, target in pairwise(chain):
        Derivation.objects.create(source=source, asset=target)
    for number in range(20):
        Derivation.objects.create(source=chain[4], asset=make_asset(admin_user, f"more {number}.png"))
    client = client_of(admin_user)
    small, large = (client.get(page(chain[4]) + query) for query in ("", "?lineage"))
    drawn = small.context["lineage"].svg
    assert [f"step {number}.png</text>" in drawn for number in range(9)] == [False, *[True] * 7, False]
    assert drawn.count("<rect") == 3 + 1 + 6 + 1 + 1
    assert "More of the lineage" in small.content.decode()
    assert large.context["lineage"].svg.count("<rect") == 4 + 1 + 20 + 3
    assert client.get(page(make_asset(admin_user))).context["lineage"] is None


def test_lineage_that_is_a_ring_is_drawn(make_asset: MakeAsset, admin_user: User) -> None:
    first, second = make_asset(admin_user, "first.png"), make_asset(admin_user, "second.png")
    Derivation.objects.create(source=first, asset=second)
    Derivation.objects.create(source=second, asset=first)
    drawn = picture_of(first, trace(first, depth=3), SMALL)
    assert drawn is not None
    assert (drawn.svg.count("<rect"), drawn.svg.count("<path")) == (2, 2)


def test_share_and_replace_are_for_the_owner(
    make_asset: MakeAsset, client_of: ClientOf, staff: User, admin_user: User
) -> None:
    asset = make_asset(staff)
    assert 'id="share"' in client_of(staff).get(page(asset)).content.decode()
    assert 'id="share"' not in client_of(admin_user).get(page(asset)).content.decode()


def test_parquet_shows_its_first_rows_and_a_broken_one_its_first_bytes(
    make_asset: MakeAsset, client_of: ClientOf, admin_user: User
) -> None:
    data = next(sample.content for sample in samples() if sample.name == "scores.parquet")
    asset = make_asset(admin_user, "t.parquet", data, content_type="application/vnd.apache.parquet")
    viewed = view_of(asset)
    assert (viewed.kind, len(viewed.rows), viewed.rows[0]) == ("table", 51, ("seed", "prompt", "score", "model"))
    assert viewed.note == "500 rows, 4 columns; the first 50 are shown."
    broken = view_of(make_asset(admin_user, "b.parquet", data[:-30]))
    assert (broken.kind, broken.text[:8]) == ("hex", "00000000")
    assert "could not be read" in broken.note
    assert "500 rows" in client_of(admin_user).get(page(asset)).content.decode()
