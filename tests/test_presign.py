"""SigV4 in the query string: AWS' published vector, botocore as a second opinion, windows and session credentials."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.credentials import RefreshableCredentials

from storagecache.presign import MAX_LIFE, BucketAddress, Credentials, GetOverrides, presign_get
from storagecache.storages.s3_connection import frozen

# AWS, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)", "Example".
PUBLISHED_KEYS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
PUBLISHED_TIME = int(datetime(2013, 5, 24, tzinfo=UTC).timestamp())
PUBLISHED_URL = (
    "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z"
    "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
)
ADDRESS = BucketAddress("https", "examplebucket.s3.amazonaws.com", "/")
NOW = PUBLISHED_TIME
NOTHING = GetOverrides()


def signed(
    *,
    credentials: Credentials = PUBLISHED_KEYS,
    signed_at: int = NOW,
    expires_in: int = 3600,
    overrides: GetOverrides = NOTHING,
) -> str:
    return presign_get(
        ADDRESS,
        "7f/a.png",
        credentials=credentials,
        region="eu-west-3",
        signed_at=signed_at,
        expires_in=expires_in,
        overrides=overrides,
    )


def test_presign_of_the_published_example_gives_the_published_url() -> None:
    url = presign_get(
        ADDRESS, "test.txt", credentials=PUBLISHED_KEYS, region="us-east-1", signed_at=NOW, expires_in=86400
    )
    assert url == PUBLISHED_URL


@pytest.mark.parametrize("token", [None, "a/token+with=signs"])
@pytest.mark.parametrize(
    "overrides",
    [
        GetOverrides(),
        GetOverrides(content_type="image/png"),
        GetOverrides("private, max-age=2700, immutable", 'inline; filename="ä \' ~*.png"', "text/plain; charset=utf-8"),
    ],
    ids=["none", "type", "all"],
)
def test_presign_agrees_with_botocore(
    monkeypatch: pytest.MonkeyPatch, token: str | None, overrides: GetOverrides
) -> None:
    at = datetime(2013, 5, 24, tzinfo=UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda **_: at.replace(tzinfo=None))  # its only clock
    credentials = Credentials("AK", "SK", token)
    ours = signed(credentials=credentials, overrides=overrides)
    request = AWSRequest("GET", "https://examplebucket.s3.amazonaws.com/7f/a.png?" + overrides.query().lstrip("&"))
    S3SigV4QueryAuth(BotocoreCredentials("AK", "SK", token), "s3", "eu-west-3", expires=3600).add_auth(request)
    theirs = urlsplit(request.url)
    assert parse_qs(urlsplit(ours).query) == parse_qs(theirs.query)


@pytest.mark.parametrize("expires_in", [0, -1, MAX_LIFE + 1, 10**12])
def test_presign_of_an_impossible_life_is_refused(expires_in: int) -> None:
    with pytest.raises(ValueError, match="lives 1 to"):
        signed(expires_in=expires_in)


def test_presign_never_outlives_the_session_of_its_credentials() -> None:
    session = Credentials("AK", "SK", "token", expires_at=NOW + 100)
    assert parse_qs(urlsplit(signed(credentials=session)).query)["X-Amz-Expires"] == ["100"]
    with pytest.raises(ValueError, match="lives 1 to"):
        signed(credentials=session, signed_at=NOW + 100)


def test_frozen_credentials_of_a_role_tell_when_their_session_ends() -> None:
    ends_at = datetime.now(UTC) + timedelta(hours=6)
    refreshable = RefreshableCredentials("AK", "SK", "token", ends_at, dict, "role")
    assert frozen(refreshable) == Credentials("AK", "SK", "token", int(ends_at.timestamp()))


def test_frozen_credentials_without_a_session_have_no_end() -> None:
    assert frozen(BotocoreCredentials("AK", "SK")).expires_at is None


def test_credentials_in_text_show_no_secret() -> None:
    assert "SECRET" not in repr(Credentials("AK", "SECRET", "SECRET-TOKEN"))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://b.s3.amazonaws.com/key?x=1", BucketAddress("https", "b.s3.amazonaws.com", "/")),
        ("http://127.0.0.1:8333/b/key?x=1", BucketAddress("http", "127.0.0.1:8333", "/b/")),
        ("https://files.example.org:443/s3/b/key", BucketAddress("https", "files.example.org", "/s3/b/")),
        ("http://files.example.org:80/b/key", BucketAddress("http", "files.example.org", "/b/")),
        ("http://files.example.org:443/b/key", BucketAddress("http", "files.example.org:443", "/b/")),
    ],
)
def test_address_of_a_bucket_is_read_from_a_url(url: str, address: BucketAddress) -> None:
    assert BucketAddress.before(url, "key") == address
