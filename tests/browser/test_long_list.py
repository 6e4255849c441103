"""Scrolling through thousands of assets: the page holds a few hundred cells, whatever went by."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_library import page, show, state, watch
from tests.server.service import Service, serving

__all__ = ["page", "state", "watch"]
COUNT = 5_000


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service of its own, whose home folder holds thousands of assets without bytes."""
    with serving(tmp_path_factory.mktemp("long")) as running:
        running.manage("generate_catalog", "--assets", str(COUNT), "--yes")
        yield running


@pytest.mark.parametrize("view", ["grid", "list"])
def test_scroll_through_five_thousand_assets_keeps_few_cells(service: Service, page: Page, view: str) -> None:
    show(page, service)
    if view == "list":
        page.click("#view-toggle")
    cells = page.locator("#cells [role=option]")
    most = last = 0
    while last < COUNT - 1:
        page.evaluate("document.getElementById('scroller').scrollBy(0, 3000)")
        page.wait_for_timeout(20)
        most = max(most, cells.count())
        last = max(last, page.evaluate("+document.querySelector('#cells').lastElementChild.dataset.index"))
    assert 0 < most < 400
    page.locator("#scroller").focus()
    page.keyboard.press("Home")
    expect(page.locator("#cell-0")).to_be_visible()
    page.keyboard.press("End")
    expect(page.locator(f"#cell-{COUNT - 1}")).to_be_visible()
