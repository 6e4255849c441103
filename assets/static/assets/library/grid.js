// The cells that are in view, and only those: however much was loaded, the page never holds more than MOST of them.

import { day, element, seconds, size } from "./text.js";

const MOST = 360;
const GAP = 10;
const BELOW = 48; // pixels under a picture
const LINE = 44; // pixels of a row of the list

export class Grid {
  items = [];
  active = -1;
  #cells = new Map(); // index -> element
  #columns = 1;
  #height = LINE;
  #frame = 0;

  constructor(scroller, room, { selected, onEnd }) {
    Object.assign(this, { scroller, room, selected, onEnd, isList: false });
    scroller.addEventListener("scroll", () => this.#soon(), { passive: true });
    new ResizeObserver(() => this.layout()).observe(scroller);
  }

  get columns() { return this.#columns; }

  get rowsInView() { return Math.max(1, Math.floor(this.scroller.clientHeight / (this.#height + GAP))); }

  show(items) {
    this.items = items;
    this.#clear();
    this.active = Math.min(this.active, items.length - 1);
    this.layout();
  }

  append(items) {
    this.items.push(...items);
    this.layout();
  }

  layout() {
    const width = this.room.clientWidth;
    const least = width < 520 ? 104 : 168;
    this.#columns = this.isList ? 1 : Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    const cell = (width - GAP * (this.#columns - 1)) / this.#columns;
    this.#height = this.isList ? LINE : Math.round(cell * 0.75) + BELOW;
    this.room.style.height = `${Math.ceil(this.items.length / this.#columns) * (this.#height + GAP)}px`;
    for (const [index, made] of this.#cells) this.#place(made, index, cell);
    this.draw();
  }

  draw() {
    this.#frame = 0;
    const step = this.#height + GAP;
    const rows = Math.ceil(this.scroller.clientHeight / step) + 1;
    const spare = Math.max(0, Math.min(3, Math.floor((MOST / this.#columns - rows) / 2)));
    const row = Math.max(0, Math.floor(this.scroller.scrollTop / step) - spare);
    const first = row * this.#columns;
    const end = Math.min(this.items.length, first + Math.min(MOST, (rows + 2 * spare) * this.#columns));
    for (const [index, made] of this.#cells) if (index < first || index >= end) this.#drop(index, made);
    const width = (this.room.clientWidth - GAP * (this.#columns - 1)) / this.#columns;
    for (let index = first; index < end; index += 1) if (!this.#cells.has(index)) this.#make(index, width);
    if (end + 3 * this.#columns * rows >= this.items.length) this.onEnd();
  }

  // Show what changed: a selection, a picture that is ready.
  refresh(ids = null) {
    for (const [index, made] of this.#cells) {
      if (ids?.has(this.items[index].id)) fill(made, this.items[index]);
      this.#mark(made, index);
    }
  }

  activate(index) {
    if (!this.items.length) return;
    this.active = Math.max(0, Math.min(this.items.length - 1, index));
    const step = this.#height + GAP;
    const top = Math.floor(this.active / this.#columns) * step;
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (top + step > scrollTop + clientHeight) this.scroller.scrollTop = top + step - clientHeight;
    this.draw();
    this.refresh();
    this.scroller.setAttribute("aria-activedescendant", `cell-${this.active}`);
  }

  #soon() { this.#frame ||= requestAnimationFrame(() => this.draw()); }

  #clear() {
    for (const [index, made] of this.#cells) this.#drop(index, made);
    this.scroller.removeAttribute("aria-activedescendant");
  }

  #drop(index, made) {
    made.remove();
    this.#cells.delete(index);
  }

  #make(index, width) {
    const made = element("div", this.isList ? "lib-line" : "lib-cell");
    made.setAttribute("role", "option");
    made.id = `cell-${index}`;
    made.dataset.index = index;
    made.draggable = true;
    fill(made, this.items[index]);
    this.#place(made, index, width);
    this.#mark(made, index);
    this.#cells.set(index, made);
    this.room.append(made);
  }

  #place(made, index, width) {
    const column = index % this.#columns;
    const row = Math.floor(index / this.#columns);
    made.style.width = `${width}px`;
    made.style.height = `${this.#height}px`;
    made.style.transform = `translate(${column * (width + GAP)}px, ${row * (this.#height + GAP)}px)`;
  }

  #mark(made, index) {
    made.setAttribute("aria-selected", String(this.selected.has(this.items[index].id)));
    made.classList.toggle("lib-active", index === this.active);
  }
}

function fill(made, item) {
  const picture = element("div", `lib-picture lib-${item.kind}`);
  if (item.color) picture.style.backgroundColor = item.color;
  if (item.thumb) picture.append(image(item));
  else picture.append(element("span", "lib-badge", item.folder ? "" : badge(item)));
  if (item.duration) picture.append(element("span", "lib-time", seconds(item.duration)));
  const name = element("span", "lib-name", item.name);
  name.title = item.name;
  const told = [item.folder ? "folder" : size(item.size), day(item.created)];
  made.replaceChildren(picture, element("span", "lib-tick"), name, element("span", "lib-told", told.join(" · ")));
  made.setAttribute("aria-label", `${item.name}, ${item.type}${item.folder ? "" : `, ${size(item.size)}`}`);
}

function image(item) {
  const made = element("img");
  made.alt = "";
  made.decoding = "async";
  made.draggable = false;
  made.src = item.thumb;
  made.addEventListener("error", () => made.replaceWith(element("span", "lib-badge", badge(item))), { once: true });
  return made;
}

function badge(item) {
  const extension = item.name.includes(".") ? item.name.split(".").pop() : "";
  return (extension && extension.length < 12 ? extension : item.kind).toUpperCase();
}
