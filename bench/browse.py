"""`python -m bench.browse --port 7777`: the library of a running service as a browser meets it, and uploads beside it.

Fill the service before, as with `generate_catalog --assets 1000000`. It uploads 100 pictures while /healthz is asked,
waits until the newest have their small pictures, and looks at the library with Chromium. Needs ADMIN_PASSWORD.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import shutil
import statistics
import threading
import time
from typing import Any, Final

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from assets.media.samples import picture

LIBRARY: Final = "/admin/assets/asset/library/"
PICTURES: Final = 100
CLIENTS: Final = 4
ROUNDS: Final = 20
SCROLLED: Final = 5_000  # assets
_ARGUMENTS: Final = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# When the first picture of a cell was whole, in milliseconds from the beginning of the navigation; 0: not yet.
_FIRST: Final = """() => {
    const names = [...document.querySelectorAll(".lib-picture img")].filter(i => i.complete && i.naturalWidth).map(i => i.src);
    const ends = performance.getEntriesByType("resource").filter(e => names.includes(e.name)).map(e => e.responseEnd);
    return ends.length ? Math.min(...ends) : 0;
}"""


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m bench.browse", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    print("| what | unit | measured | target |\n|---|---|---|---|", flush=True)
    quiet = _healthz(port, seconds=5)
    _row("/healthz, nothing else to do", "ms p50", statistics.median(quiet), "")
    _row(f"/healthz during {PICTURES} uploads of pictures", "ms p50", statistics.median(_beside_uploads(port)), "50")
    _await_pictures(port)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        _log_in(page, f"http://127.0.0.1:{port}")
        _look(page, f"http://127.0.0.1:{port}{LIBRARY}")
        browser.close()


def _row(what: str, unit: str, measured: float, target: str) -> None:
    print(f"| {what} | {unit} | {measured:.1f} | {target} |", flush=True)


def _ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body, {"Content-Type": "image/jpeg"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _healthz(port: int, *, seconds: float) -> list[float]:
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        times.append(_timed(port))
        time.sleep(0.02)
    return times


def _timed(port: int) -> float:
    begin = time.perf_counter()
    _ask(port, "GET", "/healthz")
    return (time.perf_counter() - begin) * 1e3


def _beside_uploads(port: int) -> list[float]:
    """Upload the pictures, several at once; gives the times of /healthz meanwhile."""
    waiting = [_photo(number) for number in range(PICTURES)]

    def send() -> None:
        while waiting:
            data = waiting.pop()
            name = f"/storage/assets/bench/{time.time_ns():x}.jpg"
            status, body = _ask(port, "PUT", name, data)
            if status != 201:
                raise RuntimeError(f"{name} answered {status}: {body[:200]!r}")

    senders = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for sender in senders:
        sender.start()
    times = []
    while any(sender.is_alive() for sender in senders):
        times.append(_timed(port))
        time.sleep(0.01)
    return times


def _photo(number: int) -> bytes:
    """Make a picture of a few hundred kilobytes, each another one."""
    out = io.BytesIO()
    noise = Image.effect_noise((1600, 1200), 40).convert("RGB")
    Image.blend(picture(number).convert("RGB").resize((1600, 1200)), noise, 0.2).save(out, "JPEG", quality=85)
    return out.getvalue()


def _await_pictures(port: int) -> None:
    """Wait until the newest assets have their small pictures; a worker makes a few in a second."""
    newest = json.loads(_ask(port, "GET", "/api/assets?order=-created&page_size=40")[1])["assets"]
    for asset in reversed(newest):
        for _ in range(600):
            if _ask(port, "GET", f"/api/assets/{asset['id']}/thumbnail?size=256")[0] == 200:
                break


def _log_in(page: Page, site: str) -> None:
    page.goto(f"{site}/admin/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", os.environ["ADMIN_PASSWORD"])
    page.press("#id_password", "Enter")
    page.wait_for_selector("#user-tools")


def _look(page: Page, address: str) -> None:
    html, firsts = [], []
    for _ in range(ROUNDS):
        page.goto(address)
        timing: dict[str, Any] = page.evaluate("performance.getEntriesByType('navigation')[0].toJSON()")
        html.append(timing["responseEnd"] - timing["requestStart"])
        page.wait_for_selector(".lib-picture img")
        while not (first := page.evaluate(_FIRST)):
            time.sleep(0.01)
        firsts.append(first)
    _row("library, the page itself", "ms p50", statistics.median(html), "200")
    _row("library, the page itself", "ms worst", max(html), "")
    _row("library, first small picture in Chromium", "ms p50", statistics.median(firsts), "1000")
    _row("library, first small picture in Chromium", "ms worst", max(firsts), "")
    _row(f"library, cells after {SCROLLED:,} assets", "most", _scrolled(page), "400")


def _scrolled(page: Page) -> int:
    """Scroll until `SCROLLED` assets went by; gives the most cells that the page ever held."""
    most = last = 0
    while last < SCROLLED:
        cells = page.locator("#cells [role=option]")
        most = max(most, cells.count())
        last = max(last, int(cells.last.get_attribute("data-index") or 0))
        page.evaluate("document.getElementById('scroller').scrollBy(0, 2000)")
        page.wait_for_timeout(30)
    return most


if __name__ == "__main__":
    main()
