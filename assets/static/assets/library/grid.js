// The cells that are in view, and only those: however much was loaded, the page never holds more than MOST of them.

import { day, element, seconds, size } from "./text.js";

const MOST = 360;
const GAPS = { grid: 14, list: 5 };
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

  get #gap() { return this.isList ? GAPS.list : GAPS.grid; }

  get columns() { return this.#columns; }

  get rowsInView() { return Math.max(1, Math.floor(this.scroller.clientHeight / (this.#height + this.#gap))); }

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
    this.#columns = this.isList ? 1 : Math.max(1, Math.floor((width + this.#gap) / (least + this.#gap)));
    const cell = (width - this.#gap * (this.#columns - 1)) / this.#columns;
    this.#height = this.isList ? LINE : Math.round(cell * 0.75) + BELOW;
    this.room.style.height = `${Math.ceil(this.items.length / this.#columns) * (this.#height + this.#gap)}px`;
    for (const [index, made] of this.#cells) this.#place(made, index, cell);
    this.draw();
  }

  draw() {
    this.#frame = 0;
    const step = this.#height + this.#gap;
    const rows = Math.ceil(this.scroller.clientHeight / step) + 1;
    const spare = Math.max(0, Math.min(3, Math.floor((MOST / this.#columns - rows) / 2)));
    const row = Math.max(0, Math.floor(this.scroller.scrollTop / step) - spare);
    const first = row * this.#columns;
    const end = Math.min(this.items.length, first + Math.min(MOST, (rows + 2 * spare) * this.#columns));
    for (const [index, made] of this.#cells) if (index < first || index >= end) this.#drop(index, made);
    const width = (this.room.clientWidth - this.#gap * (this.#columns - 1)) / this.#columns;
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

  // The indexes of the cells that a box in pixels of the room meets, drawn or not.
  within({ left, top, right, bottom }) {
    const step = this.#height + this.#gap;
    const width = (this.room.clientWidth - this.#gap * (this.#columns - 1)) / this.#columns;
    const found = [];
    for (let row = Math.max(0, Math.floor(top / step)); row * step <= bottom; row += 1) {
      if (row * step + this.#height < top) continue;
      for (let column = 0; column < this.#columns; column += 1) {
        const index = row * this.#columns + column;
        if (index >= this.items.length) return found;
        const begin = column * (width + this.#gap);
        if (begin <= right && begin + width >= left) found.push(index);
      }
    }
    return found;
  }

  activate(index) {
    if (!this.items.length) return;
    this.active = Math.max(0, Math.min(this.items.length - 1, index));
    const step = this.#height + this.#gap;
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
    made.setAttribute("aria-posinset", index + 1);
    made.setAttribute("aria-setsize", -1); // nobody knows how many there are
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
    made.style.transform = `translate(${column * (width + this.#gap)}px, ${row * (this.#height + this.#gap)}px)`;
  }

  #mark(made, index) {
    made.setAttribute("aria-selected", String(this.selected.has(this.items[index].id)));
    made.classList.toggle("lib-active", index === this.active);
  }
}

function fill(made, item) {
  const picture = element("div", "lib-picture");
  if (item.color) picture.style.backgroundColor = item.color;
  picture.append(item.thumb ? image(item) : badge(item));
  if (item.duration) picture.append(element("span", "lib-time", seconds(item.duration)));
  const name = element("span", "lib-name", item.name);
  name.title = item.name;
  const told = item.folder ? ["Folder"] : [size(item.size)];
  if (item.temp) told.push("temp");
  const when = element("time", "", ` · ${day(item.created)}`);
  when.dateTime = item.created;
  const about = element("span", "lib-told", told.join(" · "));
  about.append(when);
  made.replaceChildren(picture, element("span", "lib-tick"), name, about);
  made.setAttribute("aria-label", `${item.name}, ${item.type}${item.folder ? "" : `, ${size(item.size)}`}`);
}

function image(item) {
  const made = element("img");
  made.alt = "";
  made.decoding = "async";
  made.draggable = false;
  made.src = item.thumb;
  made.addEventListener("error", () => made.replaceWith(badge(item)), { once: true });
  return made;
}

const TABLES = new Set(["csv", "tsv", "parquet", "xlsx", "arrow", "feather"]);
const MODELS = new Set(["safetensors", "ckpt", "pt", "pth", "onnx", "gguf", "gltf", "glb", "obj", "stl", "ply"]);

// What stands where no picture is: the sign of the kind, and the end of the name.
function badge(item) {
  const extension = item.name.includes(".") ? item.name.split(".").pop().toLowerCase() : "";
  const made = element("span", `lib-badge lib-is-${sign(item, extension)}`);
  if (!item.folder && extension && extension.length < 12) made.append(element("span", "", extension.toUpperCase()));
  return made;
}

function sign(item, extension) {
  if (item.folder) return "folder";
  if (TABLES.has(extension)) return "table";
  if (MODELS.has(extension) || item.kind === "model") return "model";
  return ["image", "video", "audio", "text"].includes(item.kind) ? item.kind : "file";
}
