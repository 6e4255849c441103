"""The page of an asset in a real browser: media that seek, links that open without a login, replacement."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, FloatRect, Page, expect

from assets.media.samples import film, pdf, samples, tone
from tests.browser.test_library import page, state, watch
from tests.browser.test_security import PIXEL, base, put
from tests.server.service import Service

__all__ = ["page", "state", "watch"]


def show(page: Page, service: Service, asset: str) -> None:
    page.goto(f"{base(service)}/admin/assets/asset/{asset}/change/")


def test_video_seeks_by_range(service: Service, page: Page) -> None:
    asset = put(service, "film.webm", "video/webm", film("webm", "libvpx"))
    ranges: list[str] = []
    page.on("request", lambda request: ranges.append(request.headers.get("range", "")))
    show(page, service, asset)
    seeked = """e => new Promise(done => {
        e.addEventListener("seeked", () => done(e.currentTime));
        e.currentTime = 1;
    })"""
    page.locator("video").evaluate("e => e.readyState || new Promise(r => e.addEventListener('loadedmetadata', r))")
    assert page.locator("video").evaluate(seeked) == pytest.approx(1, abs=0.2)
    assert any(found.startswith("bytes=") for found in ranges)


def test_sound_image_and_pdf_are_shown(service: Service, page: Page) -> None:
    show(page, service, put(service, "tone.wav", "audio/wav", tone(440)))
    page.locator("audio").evaluate("e => e.readyState || new Promise(r => e.addEventListener('loadedmetadata', r))")
    show(page, service, put(service, "pixel.png", "image/png", PIXEL))
    assert page.locator(".asset-image img").evaluate("e => e.decode().then(() => e.naturalWidth)") == 1
    show(page, service, put(service, "page.pdf", "application/pdf", pdf("hello")))
    expect(page.locator("iframe")).to_be_visible()


def test_image_is_zoomed_and_moved_by_buttons_keys_wheel_and_drag(service: Service, page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    image = next(sample for sample in samples() if sample.name == "rings 01.png")
    show(page, service, put(service, "zoomed.png", "image/png", image.content))
    stage, told = page.locator(".asset-image"), page.locator("#zoom-told")
    expect(told).to_have_text(re.compile(r"\d+ %"))
    fitting = told.text_content() or ""
    page.get_by_role("button", name="1:1").click()
    expect(told).to_have_text("100 %")
    page.get_by_role("button", name="Larger").click()
    expect(told).to_have_text("125 %")
    stage.focus()
    for _ in range(8):
        page.keyboard.press("+")
    expect(told).to_have_text("745 %")
    left = place(page)
    page.keyboard.press("ArrowRight")
    assert place(page)["x"] == pytest.approx(left["x"] - 60, abs=1)
    stage.hover()
    page.mouse.down()
    box = stage.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2 + 30, box["y"] + box["height"] / 2 + 20)
    page.mouse.up()
    assert place(page)["x"] == pytest.approx(left["x"] - 30, abs=1)
    page.mouse.wheel(0, -100)
    expect(told).to_have_text("910 %")
    page.keyboard.press("0")
    expect(told).to_have_text(fitting)
    assert page.locator(".asset-image img").evaluate("e => getComputedStyle(e).transitionDuration") == "0s"


def place(page: Page) -> FloatRect:
    """Give where the image lies on the screen."""
    box = page.locator(".asset-image img").bounding_box()
    assert box is not None
    return box


def test_texts_tables_and_unknown_bytes_are_shown_as_what_they_are(service: Service, page: Page) -> None:
    by_name = {sample.name: sample.content for sample in samples()}
    for name, kind, shown in (
        ("notes.md", "text/markdown", "# Notes"),
        ("sample.py", "text/x-python", 'print("hello")'),
        ("workflow.json", "application/json", '"type": "demo.Node"'),
        ("weights.safetensors", "application/octet-stream", "layer."),
    ):
        show(page, service, put(service, name, kind, by_name[name]))
        expect(page.locator(".asset-stage pre")).to_contain_text(shown)
    for name, kind in (("prompts.csv", "text/csv"), ("scores.parquet", "application/vnd.apache.parquet")):
        show(page, service, put(service, name, kind, by_name[name]))
        expect(page.get_by_role("columnheader", name="score")).to_be_visible()
        expect(page.locator(".asset-table tbody tr")).to_have_count(50)


def test_page_on_a_phone_has_no_sideways_scroll(service: Service, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    show(page, service, put(service, f"{'long' * 60}.csv", "text/csv", b"a,b\n" + b"x" * 900 + b",2\n"))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for address in ("dashboard", "node-cache"):
        page.goto(f"{base(service)}/admin/assets/asset/{address}/")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_shared_link_opens_without_a_login(service: Service, page: Page, browser: Browser) -> None:
    show(page, service, put(service, "shared.txt", "text/plain", b"for you"))
    page.click("#share")
    expect(page.locator("#share-link")).to_have_value(re.compile(r"/storage/assets/shared\.txt\?"))
    link = page.locator("#share-link").input_value()
    context = browser.new_context()
    other = context.new_page()
    answer = other.goto(link)
    assert answer is not None
    assert (answer.status, answer.text()) == (200, "for you")
    context.close()


def test_replacement_changes_what_is_shown(service: Service, page: Page) -> None:
    show(page, service, put(service, "old.txt", "text/plain", b"old words"))
    expect(page.locator("pre").first).to_have_text("old words")
    new = {"name": "new.txt", "mimeType": "text/plain", "buffer": b"new words"}
    page.set_input_files("#replacement", new)  # type: ignore[arg-type]
    expect(page.locator("pre").first).to_have_text("new words")
