// The library page: what is asked for, what is chosen, and what is done with it.

import { ask, each, makeFolder, token } from "./api.js";
import { bands } from "./band.js";
import { Grid } from "./grid.js";
import { element } from "./text.js";
import { Tree } from "./tree.js";
import { Uploads, dropped } from "./uploads.js";

const $ = (id) => document.getElementById(id);
const page = $("library");
const filters = $("filters");
const scroller = $("scroller");
const MOVED = "application/x-nodetool-assets";
const AGAIN = [1500, 3000, 6000, 12000, 24000, 48000]; // milliseconds: looks for pictures that are being made; then no more

const selected = new Map(); // id -> asset
let folder = "";
let cursor = null; // null: nothing more is to be had, or it is on its way
let anchor = -1;
let before = new Map(); // what was selected when a band was begun
let running = null;
let timer = 0;

const grid = new Grid(scroller, $("cells"), { selected, onEnd: () => more() });
const tree = new Tree($("folders").querySelector("nav"), { children, onChoose: (id) => go(id) });
const uploads = new Uploads($("queue"), { onDone: () => { load({ keep: true }); tree.load(); } });

// --- asking ----------------------------------------------------------------------------------

const isTrash = () => filters.elements.state.value === "trash";
const isForeign = () => Boolean(filters.elements.owner?.value);

function question(more = {}) {
  const asked = new URLSearchParams();
  for (const [name, value] of new FormData(filters)) if (value) asked.set(name, value);
  if (folder) asked.set("folder", folder);
  if ($("search").value.trim().length > 1) asked.set("q", $("search").value.trim());
  asked.set("order", $("order").value);
  for (const [name, value] of Object.entries(more)) asked.set(name, value);
  return asked;
}

async function fetchPage(asked) {
  running?.abort();
  running = new AbortController();
  return ask("GET", `${page.dataset.browse}?${asked}`, undefined, running.signal);
}

async function load({ keep = false } = {}) {
  remember();
  clearTimeout(timer);
  cursor = null;
  scroller.setAttribute("aria-busy", "true");
  if (!keep) waiting();
  try {
    const answer = await fetchPage(question());
    if (!keep) scroller.scrollTop = 0;
    grid.show(answer.assets);
    forget(new Set(answer.assets.map((asset) => asset.id)), keep);
    showPath(answer);
    showOrder(answer);
    state(answer.assets.length ? "" : empty());
    cursor = answer.next || null;
    say(`${answer.assets.length}${answer.next ? " and more" : ""} assets`);
    pictures(0);
    grid.draw();
  } catch (error) {
    if (error.name === "AbortError") return; // a later question is on its way, and tells when it is answered
    grid.show([]);
    state(error.message, () => load());
  }
  scroller.removeAttribute("aria-busy");
}

async function more() {
  if (cursor === null) return;
  const asked = question({ cursor });
  cursor = null;
  try {
    const answer = await fetchPage(asked);
    cursor = answer.next || null;
    grid.append(answer.assets);
    pictures(0);
  } catch (error) {
    if (error.name !== "AbortError") state(error.message, () => { cursor = asked.get("cursor"); state(""); more(); });
  }
}

async function children(id, after) {
  const asked = new URLSearchParams({ type: "folder", order: "name", folder: id || page.dataset.user });
  if (after) asked.set("cursor", after);
  return ask("GET", `${page.dataset.browse}?${asked}`);
}

// Look a few times for pictures that are being made; then the page is idle.
function pictures(turn) {
  clearTimeout(timer);
  const ids = grid.items.filter((item) => item.pending).slice(-200).map((item) => item.id);
  if (!ids.length || turn >= AGAIN.length || isForeign()) return;
  timer = setTimeout(async () => {
    const answer = await ask("GET", `${page.dataset.browse}?ids=${ids.join(",")}`).catch(() => ({ assets: [] }));
    const found = new Map(answer.assets.map((asset) => [asset.id, asset]));
    for (const item of grid.items) if (found.has(item.id)) Object.assign(item, found.get(item.id));
    grid.refresh(new Set(found.keys()));
    pictures(turn + 1);
  }, AGAIN[turn]);
}

// --- what is shown ---------------------------------------------------------------------------

function waiting() {
  state("Loading …");
  $("state").className = "lib-state lib-waiting";
}

function state(text, retry = null) {
  const box = $("state");
  box.hidden = !text;
  box.className = `lib-state${retry ? " lib-trouble" : ""}`;
  box.querySelector("p").textContent = text;
  const button = box.querySelector("button");
  button.hidden = !retry;
  button.onclick = retry;
}

function empty() {
  if (isTrash()) return "The trash is empty.";
  if ($("search").value.trim()) return "No name holds this. Search looks in all folders.";
  if ([...question().keys()].some((name) => name !== "order" && name !== "folder")) return "Nothing matches these filters.";
  return "Nothing here yet. Drop files anywhere on this page, paste, or press Upload.";
}

const say = (text) => { $("status").textContent = text; };

function showPath(answer) {
  const steps = answer.path.map((step) => {
    const button = element("button", "", step.name);
    button.type = "button";
    button.dataset.folder = step.id;
    button.addEventListener("click", () => go(step.id));
    return button;
  });
  const told = answer.everywhere ? element("span", "lib-told", isTrash() ? "in the trash" : "all folders") : "";
  $("path").replaceChildren(...steps, told);
  tree.mark(folder);
}

// The order that the answer is in: a search, a filter or the trash may have one of its own.
function showOrder(answer) {
  const isOwn = isTrash() || answer.order !== $("order").value;
  const deleted = answer.order === "created" ? "first deleted first" : "last deleted first";
  $("order-told").hidden = !isOwn;
  $("order-told").textContent = isTrash() ? deleted : `${$("order").querySelector(`[value="${answer.order}"]`).textContent.toLowerCase()} first`;
}

function showSelection() {
  $("bulk").hidden = !selected.size;
  $("chosen").textContent = `${selected.size} selected`;
  for (const button of $("bulk").querySelectorAll("[data-act]")) {
    const isRestore = button.dataset.act === "restore";
    if (button.dataset.act !== "clear") button.hidden = isForeign() || isRestore !== isTrash();
  }
  grid.refresh();
}

function forget(there, keep) {
  for (const id of [...selected.keys()]) if (!keep || !there.has(id)) selected.delete(id);
  anchor = -1;
  showSelection();
}

function remember() {
  const asked = question();
  if (asked.get("order") === "-created") asked.delete("order");
  const address = `${location.pathname}${asked.size ? `?${asked}` : ""}`;
  if (address !== location.pathname + location.search) history.pushState(null, "", address);
}

function recall() {
  const asked = new URLSearchParams(location.search);
  folder = asked.get("folder") || "";
  $("search").value = asked.get("q") || "";
  $("order").value = asked.get("order") || "-created";
  for (const field of filters.elements) if (field.name) field.value = asked.get(field.name) || "";
  if ([...new FormData(filters).values()].some(Boolean)) toggleFilters(true);
}

function go(id) {
  folder = id;
  $("search").value = "";
  filters.reset();
  load();
}

function open(index) {
  const item = grid.items[index];
  if (!item || isTrash()) return;
  if (item.folder) go(item.id);
  else location.href = item.url;
}

// --- choosing --------------------------------------------------------------------------------

function choose(index, { toggle = false, extend = false } = {}) {
  const item = grid.items[index];
  if (!item) return;
  if (extend && anchor >= 0) {
    const [from, to] = [Math.min(anchor, index), Math.max(anchor, index)];
    for (const one of grid.items.slice(from, to + 1)) selected.set(one.id, one);
  } else if (toggle) {
    if (!selected.delete(item.id)) selected.set(item.id, item);
    anchor = index;
  } else {
    selected.clear();
    selected.set(item.id, item);
    anchor = index;
  }
  grid.activate(index);
  showSelection();
}

function clear() {
  selected.clear();
  showSelection();
}

const indexOf = (event) => Number(event.target.closest("[data-index]")?.dataset.index ?? -1);

$("cells").addEventListener("click", (event) => {
  const index = indexOf(event);
  if (index < 0) return;
  const isTick = event.target.classList.contains("lib-tick");
  const isTouch = event.pointerType === "touch";
  if (isTouch && !isTick && !selected.size) open(index);
  else choose(index, { toggle: isTick || event.ctrlKey || event.metaKey || isTouch, extend: event.shiftKey });
});
bands(scroller, $("cells"), {
  around: page.querySelector(".lib-main"),
  onBegin(event) {
    before = new Map(event.ctrlKey || event.metaKey || event.shiftKey ? selected : []);
  },
  onBand(box) {
    selected.clear();
    for (const [id, asset] of before) selected.set(id, asset);
    for (const index of grid.within(box)) selected.set(grid.items[index].id, grid.items[index]);
    showSelection();
  },
  onClick(event) {
    if (!event.ctrlKey && !event.shiftKey) clear();
  },
});
$("cells").addEventListener("dblclick", (event) => open(indexOf(event)));

scroller.addEventListener("keydown", (event) => {
  const { columns, rowsInView } = grid;
  const steps = {
    ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns,
    PageDown: columns * rowsInView, PageUp: -columns * rowsInView, Home: -grid.items.length, End: grid.items.length,
  };
  if (event.key in steps) {
    const from = grid.active;
    grid.activate(from < 0 ? 0 : from + steps[event.key]);
    if (event.shiftKey) {
      if (anchor < 0) anchor = Math.max(0, from);
      choose(grid.active, { extend: true });
    }
  } else if (event.key === " ") choose(grid.active, { toggle: true });
  else if (event.key === "Enter") open(grid.active);
  else if (event.key === "Escape") clear();
  else if (event.key === "Delete" && selected.size) act("trash");
  else if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
    for (const item of grid.items) selected.set(item.id, item);
    showSelection();
  } else return;
  event.preventDefault();
});

addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input, select, textarea, dialog")) return;
  event.preventDefault();
  $("search").focus();
});

// --- doing -----------------------------------------------------------------------------------

const address = (asset, rest = "") => `/api/assets/${asset.id}${rest}`;

const acts = {
  clear,
  async move() {
    const target = await dialog("Move to", { folders: true });
    if (target !== null) await moveTo([...selected.values()], target);
  },
  async tag() {
    const text = await dialog("Add tags", { label: "Tags, with commas between" });
    const tags = (text || "").split(",").map((tag) => tag.trim()).filter(Boolean);
    if (tags.length) await all("tagged", (asset) => ask("PUT", address(asset), { tags: [...new Set([...asset.tags, ...tags])] }));
  },
  trash: () => all("moved to the trash", (asset) => ask("DELETE", address(asset))),
  restore: () => all("restored", (asset) => ask("POST", address(asset, "/restore"))),
  zip() {
    const form = element("form");
    form.method = "post";
    form.action = page.dataset.browse.replace(/assets\/$/, "zip/");
    for (const [name, value] of [["csrfmiddlewaretoken", token()], ["ids", [...selected.keys()].join(",")]]) {
      const field = element("input");
      Object.assign(field, { type: "hidden", name, value });
      form.append(field);
    }
    document.body.append(form);
    form.submit();
    form.remove();
  },
};

const act = (name) => acts[name]();

async function all(done, work, assets = [...selected.values()]) {
  say(`${assets.length} …`);
  const failed = await each(assets, work);
  await load({ keep: true });
  if (assets.some((asset) => asset.folder)) tree.load();
  const names = failed.slice(0, 3).map(([asset, error]) => `${asset.name}: ${error.message}`);
  if (failed.length) state(`${failed.length} failed. ${names.join(" ")}`, () => load());
  say(`${assets.length - failed.length} ${done}${failed.length ? `, ${failed.length} failed` : ""}`);
}

function moveTo(assets, target) {
  const parent = target || page.dataset.user;
  return all("moved", (asset) => ask("PUT", address(asset), { parent_id: parent }), assets.filter((one) => one.id !== target));
}

function dialog(title, { label = "", folders = false }) {
  const box = $("ask");
  const text = box.querySelector("input");
  const nav = box.querySelector("nav");
  box.querySelector("h2").textContent = title;
  box.querySelector("label span").textContent = label;
  text.closest("label").hidden = folders;
  text.value = "";
  nav.hidden = !folders;
  nav.replaceChildren();
  let target = "";
  if (folders) new Tree(nav, { children, onChoose: (id) => { target = id; } }).load();
  box.returnValue = "";
  box.showModal();
  return new Promise((resolve) => {
    box.onclose = () => resolve(box.returnValue !== "ok" ? null : folders ? target : text.value);
  });
}

$("ask-cancel").addEventListener("click", () => $("ask").close(""));
$("bulk").addEventListener("click", (event) => event.target.dataset.act && act(event.target.dataset.act));
$("new-folder").addEventListener("click", async () => {
  const name = await dialog("New folder", { label: "Name" });
  if (!name) return;
  try {
    await makeFolder(name, folder);
    await load({ keep: true });
    tree.load();
  } catch (error) { state(error.message, () => load()); }
});

// --- dragging, dropping, pasting -------------------------------------------------------------

$("cells").addEventListener("dragstart", (event) => {
  const item = grid.items[indexOf(event)];
  if (!item || isTrash() || isForeign()) { event.preventDefault(); return; }
  const assets = selected.has(item.id) ? [...selected.values()] : [item];
  event.dataTransfer.setData(MOVED, JSON.stringify(assets.map(({ id, name, folder: isFolder }) => ({ id, name, folder: isFolder }))));
  event.dataTransfer.effectAllowed = "move";
});

function targetOf(event) {
  const named = event.target.closest?.("[data-folder]");
  if (named) return { id: named.dataset.folder, shown: named };
  const cell = event.target.closest?.("[data-index]");
  const item = cell && grid.items[Number(cell.dataset.index)];
  return item?.folder ? { id: item.id, shown: cell } : null;
}

let lit = null;
function light(shown) {
  lit?.classList.remove("lib-target");
  lit = shown;
  lit?.classList.add("lib-target");
}

page.addEventListener("dragover", (event) => {
  const { types } = event.dataTransfer;
  const target = targetOf(event);
  if (types.includes(MOVED) ? target : types.includes("Files")) event.preventDefault();
  light(target?.shown ?? null);
  $("drop").hidden = !types.includes("Files") || isTrash() || isForeign();
});
page.addEventListener("dragleave", (event) => { if (!page.contains(event.relatedTarget)) $("drop").hidden = true; });
page.addEventListener("drop", async (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  light(null);
  const moved = event.dataTransfer.getData(MOVED);
  const target = targetOf(event);
  if (moved && target) await moveTo(JSON.parse(moved), target.id);
  else if (!moved && isTarget()) await take(dropped(event.dataTransfer, target ? target.id : folder));
});

// Whether files may be added to what is looked at: neither to the trash nor to what is another's.
function isTarget() {
  if (isTrash()) say("Files are not added to the trash.");
  return !isTrash() && !isForeign();
}

async function take(finding) {
  try {
    const found = await finding;
    uploads.add(found);
    if (!found.length) { await load({ keep: true }); tree.load(); } // folders that were empty
  } catch (error) { state(error.message, () => load()); }
}
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length && isTarget()) uploads.add(files.map((file) => ({ file, parent: async () => folder })));
});
$("upload").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", (event) => {
  const target = folder;
  uploads.add([...event.target.files].map((file) => ({ file, parent: async () => target })));
  event.target.value = "";
});

// --- controls --------------------------------------------------------------------------------

function toggleFilters(isOpen) {
  filters.hidden = !isOpen;
  $("filter-toggle").setAttribute("aria-expanded", String(isOpen));
}

function setView(isList) {
  grid.isList = isList;
  $("view-toggle").setAttribute("aria-pressed", String(isList));
  localStorage.setItem("library-view", isList ? "list" : "grid");
  grid.show(grid.items);
}

let typing = 0;
const later = () => { clearTimeout(typing); typing = setTimeout(() => load(), 250); };
$("search").addEventListener("input", later);
$("order").addEventListener("change", () => load());
filters.addEventListener("input", later);
filters.addEventListener("reset", () => setTimeout(() => load()));
filters.addEventListener("submit", (event) => event.preventDefault());
$("filter-toggle").addEventListener("click", () => toggleFilters(filters.hidden));
$("view-toggle").addEventListener("click", () => setView(!grid.isList));
addEventListener("popstate", () => { recall(); load(); });

recall();
grid.isList = localStorage.getItem("library-view") === "list";
$("view-toggle").setAttribute("aria-pressed", String(grid.isList));
$("folders").open = matchMedia("(min-width: 800px)").matches;
load();
tree.load();
