"""What a browser makes of hostile uploads, and of links to good ones."""

from __future__ import annotations

import base64
import io
import json
import wave
from urllib.parse import quote

import pytest
from playwright.sync_api import Error, Page

from tests.server.service import Service

# Whatever runs leaves a mark that nothing else could leave: an object that the local user may write.
SCRIPT = "fetch('/storage/assets/pwned',{method:'PUT',body:'x'});alert(1)"
HOSTILE = {
    "page.html": ("text/html", f"<!doctype html><script>{SCRIPT}</script>"),
    "page.xhtml": (
        "application/xhtml+xml", f"<html xmlns='http://www.w3.org/1999/xhtml'><script>{SCRIPT}</script></html>"
    ),
    "image.svg": ("image/svg+xml", f"<svg xmlns='http://www.w3.org/2000/svg'><script>{SCRIPT}</script></svg>"),
    "feed.xml": ("text/xml", f"<x><script xmlns='http://www.w3.org/1999/xhtml'>{SCRIPT}</script></x>"),
    "plain.txt": ("text/plain", f"<script>{SCRIPT}</script>"),
    "data.json": ("application/json", f"<script>{SCRIPT}</script>"),
    "fake.png": ("image/png", f"<script>{SCRIPT}</script>"),
    "fake.pdf": ("application/pdf", f"<script>{SCRIPT}</script>"),
    "untyped": ("", f"<html><script>{SCRIPT}</script></html>"),
}  # fmt: skip
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+M8AAAMBAQDJ/pLvAAAAAElFTkSuQmCC")


def put(service: Service, key: str, content_type: str, data: bytes) -> str:
    """Upload as the local user; gives the asset's id."""
    answer = service.ask("PUT", f"/storage/assets/{quote(key)}", f"Content-Type: {content_type}", body=data)
    assert answer.status in {200, 201}
    return str(json.loads(answer.body)["id"])


def base(service: Service) -> str:
    """Give the address of the service."""
    return f"http://127.0.0.1:{service.port}"


def assert_nothing_ran(service: Service, dialogs: list[str]) -> None:
    """Assert that no script of an upload ran."""
    assert dialogs == []
    assert service.ask("HEAD", "/storage/assets/pwned").status == 404


@pytest.fixture
def dialogs(page: Page) -> list[str]:
    """Collect what scripts show."""
    seen: list[str] = []
    page.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
    return seen


def test_script_of_this_test_would_leave_its_mark(service: Service, page: Page, dialogs: list[str]) -> None:
    page.goto(f"{base(service)}/healthz")
    page.evaluate("fetch('/storage/assets/control', {method: 'PUT', body: 'x'})")
    page.evaluate("alert(1)")
    assert dialogs == ["1"]
    assert service.ask("HEAD", "/storage/assets/control").status == 200


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_upload_runs_nothing_when_opened_or_embedded(
    service: Service, page: Page, dialogs: list[str], name: str
) -> None:
    content_type, text = HOSTILE[name]
    put(service, name, content_type, text.encode())
    url = f"{base(service)}/storage/assets/{name}"
    try:
        page.goto(url)
        page.wait_for_load_state()
    except Error as error:
        if not any(reason in str(error) for reason in ("Download is starting", "ERR_ABORTED")):
            raise
    page.goto(f"{base(service)}/healthz")
    for tag, attribute in (("iframe", "src"), ("object", "data"), ("embed", "src"), ("img", "src"), ("script", "src")):
        page.evaluate(
            """([tag, attribute, url]) => new Promise(done => {
                const element = document.createElement(tag);
                element.onload = element.onerror = done;
                setTimeout(done, 500);
                element[attribute] = url;
                document.documentElement.appendChild(element);
            })""",
            [tag, attribute, url],
        )
    assert_nothing_ran(service, dialogs)


def test_hostile_name_runs_nothing_in_the_admin(service: Service, page: Page, dialogs: list[str]) -> None:
    key = f'"><img src=x onerror="{SCRIPT}"><script>{SCRIPT}<\\script>.png'.replace("/", "\\")
    asset = put(service, key, "image/png", PIXEL)
    page.goto(f"{base(service)}/admin/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", "admin-password")
    page.press("#id_password", "Enter")
    page.wait_for_selector("#user-tools")
    for path in ("", f"{asset}/change/", f"{asset}/delete/", "?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E"):
        page.goto(f"{base(service)}/admin/assets/asset/{path}")
    assert_nothing_ran(service, dialogs)


def test_sound_plays_under_the_policy(service: Service, page: Page) -> None:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as written:
        written.setparams((1, 2, 8000, 0, "NONE", ""))
        written.writeframes(b"\0\0" * 8000)
    put(service, "sound.wav", "audio/wav", sound.getvalue())
    page.goto(f"{base(service)}/storage/assets/sound.wav")
    player = page.wait_for_selector("video, audio")
    assert player is not None
    ready = "e => e.readyState > 0 || new Promise(r => e.addEventListener('loadedmetadata', () => r(true)))"
    assert player.evaluate(ready)
    assert player.evaluate("e => e.duration") == pytest.approx(1, abs=0.1)


def test_page_loaded_twice_fetches_no_image_byte_the_second_time(service: Service, page: Page) -> None:
    asset = put(service, "pixel.png", "image/png", PIXEL)
    sizes = [_transferred(service, page, asset) for _ in range(2)]
    assert sizes[0] > 0
    assert sizes[1] == 0


def _transferred(service: Service, page: Page, asset: str) -> int:
    """Load a page that shows the asset by a link that is asked for anew; gives the bytes that came over the network."""
    page.goto(f"{base(service)}/healthz")
    return int(
        page.evaluate(
            """async asset => {
                const asked = {method: "POST", headers: {"Content-Type": "application/json"}};
                const answer = await fetch("/api/assets/urls", {...asked, body: JSON.stringify({asset_ids: [asset]})});
                const url = (await answer.json()).urls[asset];
                const image = document.createElement("img");
                image.src = url;
                document.documentElement.appendChild(image);
                await image.decode();
                return performance.getEntriesByName(url)[0].transferSize;
            }""",
            asset,
        )
    )
