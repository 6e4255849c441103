"""The library in a real browser: looking, choosing, moving, uploading; and nothing hostile runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_security import PIXEL, base, put
from tests.server.service import Service

HOSTILE = '"><img src=x onerror=alert(1)>'
LIBRARY = "/admin/assets/asset/library/"


class Watch:
    """What went wrong on a page: errors of the console, scripts that spoke, requests to other sites."""

    def __init__(self, page: Page, site: str) -> None:
        self.troubles: list[str] = []
        page.on("console", lambda line: self.troubles.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("dialog", lambda dialog: (self.troubles.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on(
            "request", lambda request: None if self._is_own(request.url, site) else self.troubles.append(request.url)
        )

    @staticmethod
    def _is_own(url: str, site: str) -> bool:
        return url.startswith(f"{site}/") or not url.startswith(("http:", "https:", "ws"))


@pytest.fixture(scope="module")
def state(browser: Browser, service: Service) -> dict[str, object]:
    """Log in once for all tests of this module."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{base(service)}/admin/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", "admin-password")
    page.press("#id_password", "Enter")
    page.wait_for_selector("#user-tools")
    kept = context.storage_state()
    context.close()
    return dict(kept)


@pytest.fixture
def page(browser: Browser, service: Service, state: dict[str, object]) -> Iterator[Page]:
    """Give a page that is logged in; at the end nothing may have gone wrong on it."""
    context = browser.new_context(storage_state=state, viewport={"width": 1280, "height": 800})  # type: ignore[arg-type]
    made = context.new_page()
    watch = Watch(made, base(service))
    yield made
    context.close()
    assert watch.troubles == []


def show(page: Page, service: Service, query: str = "") -> None:
    page.goto(f"{base(service)}{LIBRARY}{query}")
    expect(page.locator("#scroller")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#state")).not_to_contain_text("Loading")


def make_folder(page: Page, name: str) -> None:
    page.click("#new-folder")
    page.fill("#ask input[name=text]", name)
    page.press("#ask input[name=text]", "Enter")
    expect(cell(page, name)).to_be_visible()


def cell(page: Page, name: str):  # type: ignore[no-untyped-def]
    return page.locator("#cells [role=option]").filter(has=page.get_by_text(name, exact=True))


def test_hostile_name_is_text(service: Service, page: Page) -> None:
    put(service, f"{HOSTILE}.png".replace("/", "\\"), "image/png", PIXEL)
    show(page, service, "?q=onerror")
    expect(page.locator(".lib-name").first).to_have_text(f"{HOSTILE}.png")
    page.click("#view-toggle")
    expect(page.locator(".lib-line .lib-name").first).to_have_text(f"{HOSTILE}.png")
    make_folder_named = f"{HOSTILE} folder"
    show(page, service)
    make_folder(page, make_folder_named)
    cell(page, make_folder_named).dblclick()
    expect(page.locator("#path")).to_contain_text(make_folder_named)


def test_search_while_typing_finds_in_all_folders_and_says_when_nothing_matches(service: Service, page: Page) -> None:
    put(service, "needle in hay.txt", "text/plain", b"x")
    show(page, service)
    page.keyboard.press("/")
    page.keyboard.type("NEEDLE")
    expect(page.locator("#cells [role=option]")).to_have_count(1)
    page.fill("#search", "nothing is called so")
    expect(page.locator("#state")).to_contain_text("No name holds this")


def test_assets_are_chosen_moved_trashed_and_restored(service: Service, page: Page) -> None:
    for number in range(3):
        put(service, f"moved {number}.txt", "text/plain", b"%d" % number)
    show(page, service)
    make_folder(page, "target")
    cell(page, "moved 2.txt").click()
    cell(page, "moved 0.txt").click(modifiers=["Shift"])
    expect(page.locator("#chosen")).to_have_text("3 selected")
    cell(page, "moved 1.txt").drag_to(cell(page, "target"))
    expect(cell(page, "moved 1.txt")).to_have_count(0)
    cell(page, "target").dblclick()
    expect(page.locator("#cells [role=option]")).to_have_count(3)
    page.locator("#scroller").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#chosen")).to_have_text("2 selected")
    page.keyboard.press("Delete")
    expect(page.locator("#cells [role=option]")).to_have_count(1)
    page.click("#filter-toggle")
    page.select_option("[name=state]", "trash")
    expect(page.locator("#cells [role=option]")).to_have_count(2)
    page.locator("#scroller").focus()
    page.keyboard.press("Control+a")
    page.click("[data-act=restore]")
    expect(page.locator("#state")).to_contain_text("The trash is empty")
    page.locator(".lib-tree .lib-folder-name", has_text="target").click()
    expect(page.locator("#cells [role=option]")).to_have_count(3)


def test_files_are_uploaded_with_their_progress(service: Service, page: Page) -> None:
    show(page, service)
    files = [{"name": f"up {n}.txt", "mimeType": "text/plain", "buffer": b"x" * 100_000} for n in range(5)]
    page.set_input_files("#files", files)  # type: ignore[arg-type]
    expect(page.locator("#queue strong")).to_have_text("Uploads done")
    expect(page.locator("#queue li")).to_have_count(5)
    for number in range(5):
        expect(cell(page, f"up {number}.txt")).to_be_visible()


def test_dropped_file_goes_to_the_open_folder(service: Service, page: Page) -> None:
    show(page, service)
    transfer = page.evaluate_handle(
        """() => {
            const made = new DataTransfer();
            made.items.add(new File(["dropped"], "dropped.txt", {type: "text/plain"}));
            return made;
        }"""
    )
    page.dispatch_event("#scroller", "dragover", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("#scroller", "drop", {"dataTransfer": transfer})
    expect(cell(page, "dropped.txt")).to_be_visible()
    expect(page.locator("#drop")).to_be_hidden()


def test_long_scroll_keeps_few_cells_in_the_page(service: Service, page: Page) -> None:
    for number in range(300):
        put(service, f"many/{number:03d}.txt", "text/plain", b"same")
    show(page, service)
    most = 0
    for _ in range(40):
        page.evaluate("document.getElementById('scroller').scrollBy(0, 900)")
        page.wait_for_timeout(30)
        most = max(most, page.locator("#cells [role=option]").count())
    assert 0 < most < 400
    page.locator("#scroller").focus()
    page.keyboard.press("End")
    expect(page.locator(".lib-active")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screen_has_no_sideways_scroll(service: Service, page: Page, scheme: str) -> None:
    put(service, "phone.png", "image/png", PIXEL)
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    show(page, service)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#cells [role=option]").count() > 0


def test_tags_and_move_by_dialog(service: Service, page: Page) -> None:
    put(service, "tagged.txt", "text/plain", b"x")
    show(page, service)
    make_folder(page, "by dialog")
    cell(page, "tagged.txt").click()
    page.focus("[data-act=tag]")
    page.keyboard.press("Enter")
    page.keyboard.type("red, blue")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("1 tagged")
    show(page, service, "?tag=blue")
    expect(page.locator("#cells [role=option]")).to_have_count(1)
    cell(page, "tagged.txt").click()
    page.click("[data-act=move]")
    page.locator("#ask .lib-folder-name", has_text="by dialog").click()
    page.click("#ask button[value=ok]")
    expect(page.locator("#status")).to_have_text("1 moved")
    show(page, service)
    cell(page, "by dialog").dblclick()
    expect(cell(page, "tagged.txt")).to_be_visible()


def test_zip_of_the_selection_is_downloaded(service: Service, page: Page) -> None:
    put(service, "zipped.txt", "text/plain", b"x")
    show(page, service)
    cell(page, "zipped.txt").click()
    with page.expect_download() as downloading:
        page.click("[data-act=zip]")
    assert downloading.value.suggested_filename.endswith(".zip")


def test_dashboard_shows_plots_and_health(service: Service, page: Page) -> None:
    put(service, "plotted.txt", "text/plain", b"x")
    page.goto(f"{base(service)}/admin/assets/asset/dashboard/")
    expect(page.locator("svg.plot")).not_to_have_count(0)
    expect(page.locator("#health")).to_contain_text("database")
    page.click("text=What would a purge take?")
    expect(page.locator("body")).to_contain_text("It would take")
