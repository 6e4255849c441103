"""The library in a real browser: looking, choosing, moving, uploading; and nothing hostile runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.browser.test_security import PIXEL, base, put
from tests.server.service import Service

HOSTILE = '"><img src=x onerror=alert(1)>'
LIBRARY = "/admin/assets/asset/library/"


class Watch:
    """What went wrong on a page: errors of the console, scripts that spoke, requests to other sites."""

    def __init__(self, page: Page, site: str) -> None:
        self.troubles: list[str] = []
        page.on("console", lambda line: self.troubles.append(_told(line)) if line.type == "error" else None)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("dialog", lambda dialog: (self.troubles.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on(
            "request", lambda request: None if self._is_own(request.url, site) else self.troubles.append(request.url)
        )

    def forgive(self, text: str) -> None:
        """Forget errors that a test provoked."""
        self.troubles = [trouble for trouble in self.troubles if text not in trouble]

    @staticmethod
    def _is_own(url: str, site: str) -> bool:
        return url.startswith(f"{site}/") or not url.startswith(("http:", "https:", "ws"))


def _told(line: ConsoleMessage) -> str:
    return f"{line.text} {line.location.get('url', '')}"


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
def page(browser: Browser, state: dict[str, object]) -> Iterator[Page]:
    """Give a page that is logged in."""
    context = browser.new_context(storage_state=state, viewport={"width": 1280, "height": 800})  # type: ignore[arg-type]
    yield context.new_page()
    context.close()


@pytest.fixture(autouse=True)
def watch(page: Page, service: Service) -> Iterator[Watch]:
    """Watch the page; at the end nothing may have gone wrong on it."""
    watching = Watch(page, base(service))
    yield watching
    assert watching.troubles == []


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


def test_band_selects_the_cells_that_it_meets(service: Service, page: Page) -> None:
    for number in range(3):
        put(service, f"band {number}.txt", "text/plain", b"%d" % number)
    show(page, service, "?q=band")
    expect(page.locator("#cells [role=option]")).to_have_count(3)
    box = page.locator("#cells").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 400)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 60, steps=5)
    expect(page.locator(".lib-band")).to_be_visible()
    expect(page.locator("#chosen")).to_have_text("3 selected")
    page.mouse.up()
    expect(page.locator(".lib-band")).to_have_count(0)
    expect(page.locator("#chosen")).to_have_text("3 selected")
    page.mouse.click(box["x"] + box["width"] - 5, box["y"] + 400)
    expect(page.locator("#bulk")).to_be_hidden()


@pytest.mark.parametrize("edge", ["left", "right", "path", "tree"])
def test_band_begins_beside_the_cells_too(service: Service, page: Page, edge: str) -> None:
    for number in range(3):
        put(service, f"margin {number}.txt", "text/plain", b"%d" % number)
    show(page, service, "?q=margin")
    expect(page.locator("#cells [role=option]")).to_have_count(3)
    cells, path = (page.locator(name).bounding_box() for name in ("#cells", "#path"))
    tree = page.locator("#folders").bounding_box()
    assert cells is not None
    assert path is not None
    assert tree is not None
    begins = {
        "left": (cells["x"] - 6, cells["y"] + 300),
        "right": (cells["x"] + cells["width"] + 6, cells["y"] + 300),
        "path": (path["x"] + path["width"] - 20, path["y"] + path["height"] / 2),
        "tree": (tree["x"] + tree["width"] / 2, tree["y"] + tree["height"] - 20),
    }
    page.mouse.move(*begins[edge])
    page.mouse.down()
    page.mouse.move(cells["x"] + 20, cells["y"] + 60, steps=5)
    page.mouse.move(cells["x"] + (5 if edge in ("path", "right") else 500), cells["y"] + 70, steps=5)
    expect(page.locator("#chosen")).to_have_text("3 selected")
    page.mouse.up()
    assert page.evaluate("getSelection().toString()") == ""


def test_dropped_files_and_folders_are_uploaded_where_they_belong(service: Service, page: Page, tmp_path: Path) -> None:
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "outer" / "empty").mkdir()
    (tmp_path / "outer" / "inner" / "deep.txt").write_text("deep")
    (tmp_path / "outer" / "flat.txt").write_text("flat")
    (tmp_path / "beside.txt").write_text("beside")
    show(page, service)
    drop_from_outside(page, tmp_path / "outer", tmp_path / "beside.txt")
    expect(page.locator("#queue strong")).to_have_text("Uploads done")
    expect(cell(page, "beside.txt")).to_be_visible()
    cell(page, "outer").dblclick()
    expect(page.locator("#path")).to_contain_text("outer")
    for name in ("flat.txt", "inner", "empty"):
        expect(cell(page, name)).to_be_visible()
    cell(page, "inner").dblclick()
    expect(cell(page, "deep.txt")).to_be_visible()


def drop_from_outside(page: Page, *paths: Path) -> None:
    """Drop files and folders of this machine beside the path, as a person does."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 1100, "y": 130, "data": data})


def test_failed_upload_says_why_and_is_sent_again(service: Service, page: Page, watch: Watch) -> None:
    show(page, service)
    page.route("**/api/assets", lambda route: route.fulfill(status=507, json={"detail": "The disk is full."}))
    page.set_input_files("#files", {"name": "again.txt", "mimeType": "text/plain", "buffer": b"x"})
    expect(page.locator("#queue li")).to_contain_text("again.txt")
    expect(page.locator("#queue li")).to_contain_text("The disk is full.")
    expect(page.locator("#queue strong")).to_have_text("Uploads done, 1 failed")
    page.unroute("**/api/assets")
    page.get_by_role("button", name="Retry again.txt").click()
    expect(page.locator("#queue strong")).to_have_text("Uploads done")
    expect(cell(page, "again.txt")).to_be_visible()
    watch.forgive("507")


def test_upload_under_way_is_cancelled(service: Service, page: Page) -> None:
    show(page, service)
    page.route("**/api/assets", lambda route: None)  # it is never answered
    page.set_input_files("#files", {"name": "cancelled.txt", "mimeType": "text/plain", "buffer": b"x"})
    page.get_by_role("button", name="Cancel cancelled.txt").click()
    expect(page.locator("#queue li")).to_have_count(0)
    expect(page.locator("#queue strong")).to_have_text("Uploads done")


def test_pasted_picture_is_uploaded(service: Service, page: Page) -> None:
    show(page, service)
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["pasted"], "pasted.txt", {type: "text/plain"}));
            dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
        }"""
    )
    expect(cell(page, "pasted.txt")).to_be_visible()


def test_filters_are_named_narrow_and_stay_in_the_address(service: Service, page: Page) -> None:
    put(service, "filtered.png", "image/png", PIXEL)
    put(service, "filtered.txt", "text/plain", b"x" * 9000)
    show(page, service)
    page.click("#filter-toggle")
    for name in ("Type", "State", "Storage", "Tag", "Workflow", "Job", "From", "To", "Owner"):
        expect(page.locator("#filters label").filter(has_text=name).first).to_be_visible()
    page.fill("#search", "filtered")
    expect(page.locator("#cells [role=option]")).to_have_count(2)
    page.get_by_role("combobox", name="Type").select_option(label="Images")
    expect(page.locator("#cells [role=option]")).to_have_count(1)
    expect(page.locator("#order-told")).to_have_text("oldest first")
    page.reload()
    expect(page.locator("#cells [role=option]")).to_have_count(1)
    expect(page.get_by_role("combobox", name="Type")).to_have_value("image/")
    page.click("#filters button[type=reset]")
    expect(page.locator("#cells [role=option]")).to_have_count(2)
    page.get_by_label("Bytes, least").fill("5000")
    expect(page.locator("#cells [role=option]")).to_have_count(1)


def test_order_and_view_are_remembered(service: Service, page: Page) -> None:
    put(service, "aaa first.txt", "text/plain", b"x")
    show(page, service)
    page.select_option("#order", "name")
    page.click("#view-toggle")
    expect(page.locator(".lib-line").first).to_be_visible()
    page.reload()
    expect(page.locator(".lib-line").first).to_be_visible()
    expect(page.locator("#order")).to_have_value("name")
    page.go_back()
    expect(page.locator("#order")).to_have_value("-created")


def test_library_by_keyboard_alone(service: Service, page: Page) -> None:
    put(service, "keyed.txt", "text/plain", b"x")
    show(page, service)
    page.keyboard.press("/")
    page.keyboard.type("keyed")
    expect(page.locator("#cells [role=option]")).to_have_count(1)
    while page.evaluate("document.activeElement.id") != "scroller":
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#scroller")).to_have_attribute("aria-activedescendant", "cell-0")
    page.keyboard.press("Space")
    expect(page.locator("#chosen")).to_have_text("1 selected")
    page.keyboard.press("Escape")
    expect(page.locator("#bulk")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="keyed.txt")).to_be_visible()


def test_dark_is_chosen_by_the_switch_and_kept(service: Service, page: Page) -> None:
    page.emulate_media(color_scheme="light")
    show(page, service)
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    while page.evaluate("document.documentElement.dataset.theme") != "dark":
        page.get_by_role("button", name="Toggle theme").click()
    page.reload()
    assert page.evaluate(background) == "rgb(19, 21, 27)"


def test_page_at_rest_asks_for_nothing(service: Service, page: Page) -> None:
    put(service, "at rest.txt", "text/plain", b"x")
    show(page, service, "?q=at%20rest")
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2000)
    assert asked == []


def test_trouble_is_told_and_tried_again(service: Service, page: Page, watch: Watch) -> None:
    put(service, "after trouble.txt", "text/plain", b"x")
    page.route("**/library/assets/*", lambda route: route.fulfill(status=503, json={"detail": "The catalog rests."}))
    page.goto(f"{base(service)}{LIBRARY}?q=after%20trouble")
    expect(page.locator("#state")).to_contain_text("The catalog rests.")
    page.unroute("**/library/assets/*")
    page.get_by_role("region", name="Assets").get_by_role("button", name="Try again").click()
    expect(cell(page, "after trouble.txt")).to_be_visible()
    page.locator("#folders").get_by_role("button", name="Try again").click()
    expect(page.locator("#folders .lib-more")).to_have_count(0)
    watch.forgive("503")


def test_dashboard_shows_plots_and_health(service: Service, page: Page) -> None:
    put(service, "plotted.txt", "text/plain", b"x")
    page.goto(f"{base(service)}/admin/assets/asset/dashboard/")
    expect(page.locator("svg.plot")).not_to_have_count(0)
    expect(page.locator("#health")).to_contain_text("database")
    page.click("text=What would a purge take?")
    expect(page.locator("body")).to_contain_text("It would take")
    page.click("text=Not now")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Node cache").click()
    page.get_by_label("Workflow", exact=True).fill("w")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".messagelist")).to_contain_text("The node cache is cleared: workflow w.")
