"""Every page of the admin, ours and Django's: it can be read, has names and a focus, and keeps to its policy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from assets.media.samples import samples
from tests.browser.test_library import cell, page, show, state, watch
from tests.browser.test_security import PIXEL, base, put
from tests.server.service import Service

__all__ = ["page", "state", "watch"]

LOOKS = (Path(__file__).parent / "looks.js").read_text(encoding="utf-8")
POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
NAMED = {
    "button", "textbox", "searchbox", "combobox", "checkbox", "radio", "spinbutton", "slider", "link", "listbox",
    "option", "Date", "image", "dialog", "navigation", "region",
}  # fmt: skip
# Django's own fields for a time, which stand behind the bare words "Date:" and "Time:", and what its script puts there.
NAMELESS = ("vDateField", "vTimeField", "calendarlink", "clocklink")
ADMIN = "/admin/"
ASSET = "/admin/assets/asset/"
PAGES = {
    "index": ADMIN,
    "library": f"{ASSET}library/",
    "trash": f"{ASSET}library/?state=trash",
    "nothing found": f"{ASSET}library/?q=nothing+is+called+so",
    "trouble": f"{ASSET}library/?folder=ffffffffffffffffffffffffffffffff",
    "dashboard": f"{ASSET}dashboard/",
    "figures": f"{ASSET}dashboard/?figures",
    "node cache": f"{ASSET}node-cache/",
}
OTHERS = {
    "assets": ASSET,
    "upload": f"{ASSET}add/",
    "objects": "/admin/assets/storedobject/",
    "jobs": "/admin/assets/job/",
    "accounts": "/admin/assets/account/",
    "account": "/admin/assets/account/1/change/",
    "comparisons": "/admin/assets/integrityrun/",
    "findings": "/admin/assets/integrityfinding/",
    "set aside": "/admin/assets/quarantinedobject/",
    "schedule": "/admin/assets/scheduledwork/",
    "rules": "/admin/assets/retentionrule/",
    "users": "/admin/auth/user/",
    "user": "/admin/auth/user/1/change/",
    "new user": "/admin/auth/user/add/",
    "user's password": "/admin/auth/user/1/password/",
    "user's deletion": "/admin/auth/user/1/delete/",
    "user's history": "/admin/auth/user/1/history/",
    "groups": "/admin/auth/group/",
    "new group": "/admin/auth/group/add/",
    "application": "/admin/auth/",
    "own password": "/admin/password_change/",
}
OF_ASSETS = ("prompts.csv", "sample.py", "weights.safetensors", "pixel.png")


@pytest.fixture(scope="module")
def assets(service: Service) -> dict[str, str]:
    """Store an asset of each kind; gives their ids."""
    by_name = {sample.name: sample.content for sample in samples()} | {"pixel.png": PIXEL}
    kinds = dict(zip(OF_ASSETS, ("text/csv", "text/x-python", "application/octet-stream", "image/png"), strict=True))
    return {name: put(service, f"every {name}", kind, by_name[name]) for name, kind in kinds.items()}


def unnamed(page: Page) -> list[str]:
    """Give what the browser tells assistive techniques of without a name."""
    session = page.context.new_cdp_session(page)
    nodes: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    found = [n for n in nodes if not n["ignored"] and n["role"]["value"] in NAMED and not _name(n)]
    session.send("DOM.getDocument")
    shown = [session.send("DOM.getOuterHTML", {"backendNodeId": n["backendDOMNodeId"]})["outerHTML"] for n in found]
    session.detach()
    return [text[:200] for text in shown if not any(mark in text for mark in NAMELESS)]


def _name(node: dict[str, Any]) -> str:
    return str(node.get("name", {}).get("value", "")).strip()


def assert_looks_well(page: Page) -> None:
    """Assert that what the page shows can be read, is named and marks its focus, light and dark."""
    page.emulate_media(reduced_motion="reduce")
    page.keyboard.press("Shift")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        looks = page.evaluate(LOOKS)
        assert looks["pale"]["seen"] > 3
        assert looks["unmarked"]["seen"] > 0
        assert (scheme, looks["pale"]["found"]) == (scheme, [])
        assert (scheme, looks["unmarked"]["found"]) == (scheme, [])
    assert unnamed(page) == []


def go(page: Page, service: Service, address: str) -> None:
    """Open a page and see that it came with the policy."""
    answer = page.goto(base(service) + address)
    assert answer is not None
    assert (answer.status, answer.headers.get("content-security-policy")) == (200, POLICY)
    page.wait_for_load_state("networkidle" if address in PAGES.values() else "load")


@pytest.mark.parametrize("name", [*PAGES, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_page_looks_well_and_keeps_to_its_policy(
    service: Service, page: Page, assets: dict[str, str], watch: Any, name: str
) -> None:
    go(page, service, (PAGES | OTHERS)[name])
    assert_looks_well(page)
    if name == "trouble":
        watch.forgive("404")


@pytest.mark.parametrize("name", OF_ASSETS)
def test_page_of_an_asset_looks_well(service: Service, page: Page, assets: dict[str, str], name: str) -> None:
    for verb in ("change", *(("delete", "history") if name == "pixel.png" else ())):
        go(page, service, f"{ASSET}{assets[name]}/{verb}/")
        assert_looks_well(page)


def test_login_looks_well_and_says_what_is_wrong(service: Service, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda line: troubles.append(line.text) if line.type == "error" else None)
    go(page, service, "/admin/login/")
    assert_looks_well(page)
    page.fill("#id_username", "admin")
    page.fill("#id_password", "not the password")
    page.press("#id_password", "Enter")
    expect(page.locator(".errornote")).to_be_visible()
    assert_looks_well(page)
    context.close()
    assert troubles == []


def test_library_in_use_looks_well(service: Service, page: Page, assets: dict[str, str]) -> None:
    show(page, service, "?q=every")
    page.click("#filter-toggle")
    cell(page, "every pixel.png").click()
    assert_looks_well(page)
    page.click("#view-toggle")
    assert_looks_well(page)
    page.set_input_files("#files", {"name": "every up.txt", "mimeType": "text/plain", "buffer": b"x"})
    expect(page.locator("#queue strong")).to_have_text("Uploads done")
    assert_looks_well(page)
    page.click("#new-folder")
    assert_looks_well(page)


def test_calendar_clock_and_choosers_of_the_admin_run_under_the_policy(service: Service, page: Page) -> None:
    go(page, service, "/admin/auth/user/1/change/")
    page.locator("#calendarlink0").click()
    expect(page.locator("#calendarbox0")).to_be_visible()
    page.locator("#calendarin0 td a").first.click()
    expect(page.locator("#id_last_login_0")).to_have_value(re.compile(r"\d{4}-\d\d-01"))
    page.locator("#clocklink0").click()
    page.get_by_role("link", name="Noon").first.click()
    expect(page.locator("#id_last_login_1")).to_have_value("12:00:00")
    page.select_option("#id_user_permissions_from", index=0)
    page.click("#id_user_permissions_add")
    expect(page.locator("#id_user_permissions_to option")).to_have_count(1)
