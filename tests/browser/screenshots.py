"""`make screenshots`: run the service with the demo and take pictures of its pages, light, dark and as on a phone.

All lie in .run/screenshots then, to be looked at; those that the documentation keeps are in docs/screenshots, too.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import ARGUMENTS
from tests.server.service import Service, serving

PROJECT = Path(__file__).resolve().parents[2]
ALL = PROJECT / ".run" / "screenshots"
KEPT = PROJECT / "docs" / "screenshots"
BEST = {
    "library-light", "library-dark", "library-phone", "asset-png-dark", "asset-parquet-light", "asset-webm-phone",
    "dashboard-light", "dashboard-phone", "node-cache-dark",
}  # fmt: skip
LIBRARY = "/admin/assets/asset/library/"
LOOKS = {"light": (1280, 800, "light"), "dark": (1280, 800, "dark"), "phone": (390, 800, "light")}


def main() -> int:
    """Take every picture."""
    for folder in (ALL, KEPT):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as aside, serving(Path(aside)) as service, sync_playwright() as playwright:
        service.manage("demo")
        _await_pictures(service)
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        for look in LOOKS:
            _take(browser, service, look)
        browser.close()
    return 0


def _await_pictures(service: Service) -> None:
    """Wait until the last film has its picture: they are made in the order of the uploads."""
    found = json.loads(service.ask("GET", "/api/assets/by-filename/wave.webm").body)
    for _ in range(60):  # each asks for a second at most
        if service.ask("GET", f"/api/assets/{found['id']}/thumbnail").status == 200:
            return
        time.sleep(0.5)


def _take(browser: Browser, service: Service, look: str) -> None:
    width, height, scheme = LOOKS[look]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    site = f"http://127.0.0.1:{service.port}"
    _log_in(page, site)
    for name, address in _pages(service).items():
        page.goto(site + address)
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(700)
        picture = page.screenshot(path=ALL / f"{name}-{look}.jpg", type="jpeg", quality=50)
        if f"{name}-{look}" in BEST:
            (KEPT / f"{name}-{look}.jpg").write_bytes(picture)
    context.close()


def _log_in(page: Page, site: str) -> None:
    page.goto(f"{site}/admin/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", "admin-password")
    page.press("#id_password", "Enter")
    page.wait_for_selector("#user-tools, #content-main")


def _pages(service: Service) -> dict[str, str]:
    board = "/admin/assets/asset/{}/"
    pages = {"library": LIBRARY, "trash": f"{LIBRARY}?state=trash"}
    pages |= {name: board.format(name) for name in ("dashboard", "node-cache")}
    for name in ("rings 01.png", "scores.parquet", "wave.webm"):
        found = json.loads(service.ask("GET", f"/api/assets/by-filename/{quote(name)}").body)
        pages["asset-" + name.rpartition(".")[2]] = f"/admin/assets/asset/{found['id']}/change/"
    return pages


if __name__ == "__main__":
    sys.exit(main())
