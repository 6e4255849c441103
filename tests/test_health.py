"""What load balancers hear: /healthz and /readyz, with parts that work, fail and hang."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from nodetool_site import health
from storagecache.environment import Environment
from tests.integrity.conftest import on_disk, on_s3
from tests.manage import Manage
from tests.servers import MemcachedServer, SeaweedServer


@pytest.fixture
def memcache(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the environment name Memcached nodes."""

    def configure(*hosts: str) -> None:
        environment = Environment.load({**os.environ, "MEMCACHE_HOST": ",".join(hosts)})
        monkeypatch.setattr(Environment, "current", staticmethod(lambda: environment))

    return configure


def ready(client: Client) -> tuple[int, dict[str, Any]]:
    response = client.get("/readyz")
    return response.status_code, json.loads(response.content)


def test_healthz_answers_without_login_or_database(client: Client) -> None:
    response = client.get(reverse("healthz"))
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert "no-store" in response["Cache-Control"]
    assert not response.cookies


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_post_is_refused(client: Client, path: str) -> None:
    assert client.post(path).status_code == 405


@pytest.mark.django_db(transaction=True)
def test_readyz_all_parts_well_is_200(client: Client) -> None:
    status, body = ready(client)
    assert status == 200
    assert {name: body[name]["status"] for name in ("database", "buckets", "cache")} == {
        "database": "ok", "buckets": "ok", "cache": "ok",
    }  # fmt: skip
    assert body["status"] == "ok"
    assert all(body[part]["ms"] >= 0 for part in ("database", "buckets", "cache"))


@pytest.mark.django_db(transaction=True)
def test_readyz_lost_bucket_is_503(client: Client, settings: Any, tmp_path: Path) -> None:
    settings.STORAGES = {**settings.STORAGES, **on_disk(tmp_path / "not" / "mounted")}
    status, body = ready(client)
    assert (status, body["status"]) == (503, "failed")
    assert body["buckets"]["status"] == "failed"
    assert body["database"]["status"] == "ok"


def test_readyz_lost_database_is_503_and_tells_no_secret(manage: Manage) -> None:
    code = "from django.test import Client; r = Client().get('/readyz', headers={'host': '127.0.0.1'}); "
    code += "import sys; sys.stdout.write(f'{r.status_code} {r.content.decode()}')"
    url = "postgres://nobody:secret-word@127.0.0.1:9/none"
    result = manage("shell", "--no-imports", "-c", code, DATABASE_URL=url)
    status, _, body = result.stdout.partition(" ")
    assert (status, json.loads(body)["database"]["status"]) == ("503", "failed"), result.stderr
    assert json.loads(body)["buckets"]["status"] == "ok"
    assert "secret-word" not in body


@pytest.mark.django_db(transaction=True)
def test_readyz_unmigrated_database_is_503(client: Client) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE assets_storedobject RENAME TO assets_aside")
    try:
        status, body = ready(client)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE assets_aside RENAME TO assets_storedobject")
    assert (status, body["database"]["status"]) == (503, "failed")
    assert "migrations" in body["database"]["detail"]


@pytest.mark.django_db(transaction=True)
def test_readyz_s3_bucket_answers_and_missing_one_fails(
    client: Client, settings: Any, seaweedfs: SeaweedServer
) -> None:
    chosen = on_s3(seaweedfs)
    settings.STORAGES = {**settings.STORAGES, **chosen}
    assert ready(client)[0] == 200
    chosen["assets"]["OPTIONS"]["bucket"] = "no-such-bucket"
    settings.STORAGES = {**settings.STORAGES, **chosen}
    status, body = ready(client)
    assert status == 503
    assert "no-such-bucket" in body["buckets"]["detail"]
    assert seaweedfs.secret_key not in json.dumps(body)


@pytest.mark.django_db(transaction=True)
def test_readyz_memcached_answers_is_ok(client: Client, memcache: Any, memcached_server: MemcachedServer) -> None:
    memcache(f"127.0.0.1:{memcached_server.port}")
    assert ready(client)[1]["cache"]["status"] == "ok"


@pytest.mark.django_db(transaction=True)
def test_readyz_dead_memcached_is_degraded_but_ready(client: Client, memcache: Any) -> None:
    memcache("127.0.0.1:9")
    status, body = ready(client)
    assert (status, body["status"], body["cache"]["status"]) == (200, "degraded", "degraded")


def test_answer_hanging_part_fails_after_the_patience_and_is_tried_once() -> None:
    tries: list[int] = []
    release = threading.Event()

    def hang() -> None:
        tries.append(1)
        release.wait(30)

    part = health.Part("buckets", hang, needed=True)
    try:
        for _ in range(3):
            response = health.answer((part,), patience=0.05)
            assert response.status_code == 503
            assert json.loads(response.content)["buckets"]["detail"] == "No answer within 0.05 s."
        assert len(tries) == 1
    finally:
        release.set()
    part.start().result(10)
    assert health.answer((part,), patience=10).status_code == 200


def test_answer_failing_optional_part_is_degraded_and_200() -> None:
    def fail() -> None:
        raise health.PartFailedError("down")

    response = health.answer((health.Part("cache", fail, needed=False),), patience=10)
    assert (response.status_code, json.loads(response.content)["cache"]["status"]) == (200, "degraded")
