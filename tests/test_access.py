"""Who is known, from where, and whom another site's page cannot speak for."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory

from assets.access import caller_address, is_local
from assets.models import Asset
from assets.throttle import TOKENS
from tests.roles import ELSEWHERE, PASSWORD, ChangeEnvironment, Everybody, local, remote, with_session, with_token

PRIVATE = "/storage/assets/private.txt"
WRITTEN = "/storage/assets/written.txt"


def write(client: Client, **extra: str) -> int:
    """Try to write; gives the status."""
    return client.put(WRITTEN, b"x", content_type="text/plain", **extra).status_code  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        pytest.param({"REMOTE_ADDR": "127.0.0.1"}, True, id="IPv4"),
        pytest.param({"REMOTE_ADDR": "127.8.8.8"}, True, id="whole IPv4 loopback net"),
        pytest.param({"REMOTE_ADDR": "::1"}, True, id="IPv6"),
        pytest.param({"REMOTE_ADDR": "::ffff:127.0.0.1"}, True, id="mapped"),
        pytest.param({"REMOTE_ADDR": "::ffff:192.0.2.7"}, False, id="mapped elsewhere"),
        pytest.param({"REMOTE_ADDR": "192.0.2.7"}, False, id="elsewhere"),
        pytest.param({"REMOTE_ADDR": "0.0.0.0"}, False, id="any"),
        pytest.param({"REMOTE_ADDR": ""}, False, id="unknown, such as a socket file"),
        pytest.param({"REMOTE_ADDR": "localhost"}, False, id="name"),
        pytest.param({"HTTP_FORWARDED": "for=127.0.0.1"}, False, id="Forwarded"),
        pytest.param({"HTTP_FORWARDED": ""}, False, id="Forwarded that could not be decoded"),
        pytest.param({"HTTP_VIA": "1.1 proxy"}, False, id="Via"),
        pytest.param({"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, False, id="X-Forwarded-For"),
        pytest.param({"HTTP_X_FORWARDED_HOST": "localhost"}, False, id="X-Forwarded-Host"),
        pytest.param({"HTTP_X_FORWARDED_PROTO": "http"}, False, id="X-Forwarded-Proto"),
        pytest.param({"HTTP_X_REAL_IP": "127.0.0.1"}, False, id="X-Real-IP"),
        pytest.param({"HTTP_CF_CONNECTING_IP": "127.0.0.1"}, False, id="CF-Connecting-IP"),
        pytest.param({"HTTP_TRUE_CLIENT_IP": "127.0.0.1"}, False, id="True-Client-IP"),
        pytest.param({"HTTP_X_CLIENT_IP": "127.0.0.1"}, False, id="X-Client-IP"),
        pytest.param({"HTTP_X_CLUSTER_CLIENT_IP": "127.0.0.1"}, False, id="X-Cluster-Client-IP"),
        pytest.param({"HTTP_FASTLY_CLIENT_IP": "127.0.0.1"}, False, id="Fastly-Client-IP"),
    ],
)
def test_is_local_of_a_caller_is_true_on_this_machine_only(meta: dict[str, str], expected: bool) -> None:
    assert is_local(RequestFactory().get("/", **meta)) is expected  # type: ignore[arg-type]


def test_is_local_with_token_provider_is_never_true(change_environment: ChangeEnvironment) -> None:
    change_environment(auth_provider="token")
    assert not is_local(RequestFactory().get("/"))


def test_is_local_in_production_is_never_true(change_environment: ChangeEnvironment) -> None:
    change_environment(env="production", auth_provider="local")
    assert not is_local(RequestFactory().get("/"))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({}, 201, id="no browser"),
        pytest.param({"HTTP_ORIGIN": "http://testserver"}, 201, id="own origin"),
        pytest.param({"HTTP_ORIGIN": "http://testserver:80"}, 201, id="own origin with the default port"),
        pytest.param({"HTTP_ORIGIN": "http://TESTSERVER"}, 201, id="own origin in capitals"),
        pytest.param({"HTTP_SEC_FETCH_SITE": "same-origin"}, 201, id="same-origin"),
        pytest.param({"HTTP_SEC_FETCH_SITE": "none"}, 201, id="typed by the user"),
        pytest.param({"HTTP_SEC_FETCH_SITE": "same-site"}, 403, id="another port of this machine"),
        pytest.param({"HTTP_SEC_FETCH_SITE": "cross-site"}, 403, id="cross-site"),
        pytest.param({"HTTP_SEC_FETCH_SITE": ""}, 403, id="undecodable Sec-Fetch-Site"),
        pytest.param({"HTTP_ORIGIN": "https://evil.example"}, 403, id="foreign"),
        pytest.param({"HTTP_ORIGIN": "http://testserver:3000"}, 403, id="other port"),
        pytest.param({"HTTP_ORIGIN": "https://testserver"}, 403, id="other scheme"),
        pytest.param({"HTTP_ORIGIN": "http://testserver.evil.example"}, 403, id="name that begins alike"),
        pytest.param({"HTTP_ORIGIN": "http://user@testserver"}, 201, id="user info names the same host"),
        pytest.param({"HTTP_ORIGIN": "null"}, 403, id="null"),
        pytest.param({"HTTP_ORIGIN": ""}, 403, id="undecodable Origin"),
        pytest.param({"HTTP_ORIGIN": "http://testserver:x"}, 403, id="malformed"),
        pytest.param({"HTTP_ORIGIN": "file://"}, 403, id="file"),
        pytest.param(
            {"HTTP_ORIGIN": "http://testserver", "HTTP_SEC_FETCH_SITE": "cross-site"}, 403, id="contradiction"
        ),
    ],
)
def test_local_write_is_refused_from_other_sites(everybody: Everybody, headers: dict[str, str], expected: int) -> None:
    assert write(local(), **headers) == expected
    assert Asset.objects.filter(key="written.txt").exists() is (expected == 201)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "evil.example:80"]
)
@pytest.mark.parametrize("path", [PRIVATE, "/admin/login/", "/healthz", "/nowhere"])
def test_unknown_host_is_400_in_local_mode(everybody: Everybody, host: str, path: str) -> None:
    response = local().get(path, HTTP_HOST=host)
    assert response.status_code == 400
    assert host not in response.text


def test_unknown_host_cannot_write_in_local_mode(everybody: Everybody) -> None:
    assert write(local(), HTTP_HOST="evil.example") == 400


def test_bearer_beside_a_session_wins(everybody: Everybody) -> None:
    client = with_token(everybody.other)
    client.force_login(everybody.owner)
    assert client.get(PRIVATE).status_code == 404
    assert write(client) == 201  # and needs no CSRF token
    assert Asset.objects.get(key="written.txt").owner == everybody.other


def test_bearer_that_is_wrong_beside_a_session_is_refused(everybody: Everybody) -> None:
    client = with_session(everybody.owner, HTTP_AUTHORIZATION="Bearer nonsense")
    assert client.get(PRIVATE).status_code == 401
    assert write(client) == 401


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", 404),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("bearer nonsense", 401),
        ("Bearer nts_" + "x" * 43, 401),
        ("Bearer nts_" + "x" * 30_000, 401),
        ("Bearer nts_" + "x" * 100_000, 431),
        ("Bearer \x00\x7f\ud800", 401),
        ("Basic b3duZXI6cGFzc3dvcmQ=", 404),
        ("Bearer\tnonsense", 404),
    ],
    ids=["undecodable", "bare", "blank", "lower case", "well-formed", "long", "too long", "garbled", "basic", "tab"],
)
def test_authorization_that_is_garbled_lets_nobody_in(everybody: Everybody, header: str, expected: int) -> None:
    response = remote(HTTP_AUTHORIZATION=header).get(PRIVATE)
    assert response.status_code == expected
    assert "nonsense" not in response.text


def test_bearer_that_is_wrong_tells_nothing_of_what_exists(everybody: Everybody) -> None:
    client = remote(HTTP_AUTHORIZATION="Bearer nonsense")
    answers = {(client.get(f"/storage/assets/{key}").status_code) for key in ("private.txt", "absent.txt")}
    assert answers == {401}
    assert client.get("/storage/assets/public.txt").status_code == 200


def test_session_of_an_inactive_user_is_nobody(everybody: Everybody) -> None:
    client = with_session(everybody.owner)
    assert client.get(PRIVATE).status_code == 200
    User.objects.filter(pk=everybody.owner.pk).update(is_active=False)
    assert client.get(PRIVATE).status_code == 404
    assert write(client) == 401


def test_token_of_an_inactive_user_is_refused(everybody: Everybody) -> None:
    client = with_token(everybody.owner)
    User.objects.filter(pk=everybody.owner.pk).update(is_active=False)
    assert client.get(PRIVATE).status_code == 401


def test_session_without_csrf_token_cannot_write(everybody: Everybody) -> None:
    client = remote()
    client.force_login(everybody.owner)
    assert write(client) == 403
    assert client.delete(PRIVATE).status_code == 403
    assert client.get(PRIVATE).status_code == 200


def test_session_of_this_machine_needs_csrf_as_any_other(everybody: Everybody) -> None:
    client = local()
    client.force_login(everybody.owner)
    assert write(client) == 403


def test_wrong_tokens_are_slowed_down_and_right_ones_never(everybody: Everybody) -> None:
    right, wrong = with_token(everybody.owner), remote(HTTP_AUTHORIZATION="Bearer nts_wrong")
    statuses = [wrong.get(PRIVATE).status_code for _ in range(TOKENS.failures + 1)]
    assert statuses == [401] * TOKENS.failures + [429]
    assert wrong.get(PRIVATE).headers["Retry-After"] == "60"
    assert right.get(PRIVATE).status_code == 200
    elsewhere = remote(HTTP_AUTHORIZATION="Bearer nts_wrong", REMOTE_ADDR="192.0.2.8")
    assert elsewhere.get(PRIVATE).status_code == 401


def log_in(client: Client, password: str, **extra: str) -> int:
    """Try the admin's form; 302 is success, 200 shows the form again."""
    client.cookies["csrftoken"] = "c" * 32
    data = {"username": "owner", "password": password, "csrfmiddlewaretoken": "c" * 32}
    return client.post("/admin/login/", data, **extra).status_code  # type: ignore[arg-type]


def test_failed_logins_lock_out_this_caller_and_no_other(everybody: Everybody) -> None:
    assert [log_in(remote(), "wrong") for _ in range(10)] == [200] * 10
    assert log_in(remote(), PASSWORD) == 200
    assert log_in(remote(REMOTE_ADDR="192.0.2.8"), PASSWORD) == 302


def test_failed_logins_behind_a_proxy_of_this_machine_count_for_its_client(everybody: Everybody) -> None:
    for _ in range(10):
        log_in(local(), "wrong", HTTP_X_FORWARDED_FOR="198.51.100.1, 192.0.2.7")
    assert log_in(local(), PASSWORD, HTTP_X_FORWARDED_FOR="198.51.100.99, 192.0.2.7") == 200
    assert log_in(local(), PASSWORD, HTTP_X_FORWARDED_FOR="192.0.2.8") == 302


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"REMOTE_ADDR": ELSEWHERE}, ELSEWHERE),
        ({"REMOTE_ADDR": ELSEWHERE, "HTTP_X_FORWARDED_FOR": "198.51.100.1"}, ELSEWHERE),
        ({"REMOTE_ADDR": "127.0.0.1"}, "127.0.0.1"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "1.1.1.1, 198.51.100.1"}, "198.51.100.1"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "<script>"}, ""),
        ({"REMOTE_ADDR": "2001:db8::1:2:3:4"}, "2001:db8::/64"),
        ({"REMOTE_ADDR": "::ffff:192.0.2.7"}, ELSEWHERE),
    ],
)
def test_caller_address_believes_a_header_of_this_machine_only(meta: dict[str, str], expected: str) -> None:
    assert caller_address(RequestFactory().get("/", **meta)) == expected  # type: ignore[arg-type]
