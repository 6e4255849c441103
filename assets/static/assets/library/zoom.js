// An image that is looked at from near: by wheel, pinch, drag, keys and buttons. What is shown follows from scale and place.

const MOST = 16; // pixels of the screen for one of the image
const STEP = 1.25;
const PAN = 60; // pixels that an arrow key moves

// `stage` holds an <img>; `told` says the scale; `tools` holds buttons with data-zoom: in, out, fit, full.
export class Zoom {
  #scale = 1; // pixels of the screen for one of the image
  #x = 0; // of the image's middle, from the stage's
  #y = 0;
  #isFit = true;
  #held = new Map(); // pointer id -> place

  constructor(stage, { tools, told }) {
    Object.assign(this, { stage, tools, told, image: stage.querySelector("img") });
    const start = () => { stage.classList.add("asset-ready"); tools.hidden = false; this.fit(); };
    if (this.image.complete && this.image.naturalWidth) start();
    else this.image.addEventListener("load", start, { once: true });
    new ResizeObserver(() => (this.#isFit ? this.fit() : this.#show())).observe(stage);
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("keydown", (event) => this.#key(event));
    stage.addEventListener("dblclick", (event) => (this.#isFit ? this.#to(1, event) : this.fit()));
    stage.addEventListener("pointerdown", (event) => this.#hold(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.#held.delete(event.pointerId));
    tools.addEventListener("click", (event) => this.#act(event.target.dataset.zoom));
  }

  // The whole image, never larger than it is.
  fit() {
    this.#isFit = true;
    this.#scale = this.#fitting();
    this.#x = this.#y = 0;
    this.#show();
  }

  #fitting() {
    const { clientWidth, clientHeight } = this.stage;
    const { naturalWidth, naturalHeight } = this.image;
    return Math.min(1, clientWidth / (naturalWidth || 1), clientHeight / (naturalHeight || 1));
  }

  #act(name) {
    if (name === "in") this.#to(this.#scale * STEP);
    else if (name === "out") this.#to(this.#scale / STEP);
    else if (name === "full") this.#to(1);
    else if (name === "fit") this.fit();
  }

  // Show at a scale; what lies under `at` (the middle without it) stays there.
  #to(scale, at = null) {
    const wanted = Math.min(MOST, Math.max(Math.min(this.#fitting(), 1), scale));
    const box = this.stage.getBoundingClientRect();
    const x = at ? at.clientX - box.left - box.width / 2 : 0;
    const y = at ? at.clientY - box.top - box.height / 2 : 0;
    const grown = wanted / this.#scale;
    this.#x = x - (x - this.#x) * grown;
    this.#y = y - (y - this.#y) * grown;
    this.#scale = wanted;
    this.#isFit = false;
    this.#show();
  }

  #pan(x, y) {
    this.#x += x;
    this.#y += y;
    this.#show();
  }

  #show() {
    const { clientWidth, clientHeight } = this.stage;
    const width = this.image.naturalWidth * this.#scale;
    const height = this.image.naturalHeight * this.#scale;
    const [mostX, mostY] = [Math.max(0, width - clientWidth) / 2, Math.max(0, height - clientHeight) / 2];
    this.#x = Math.max(-mostX, Math.min(mostX, this.#x));
    this.#y = Math.max(-mostY, Math.min(mostY, this.#y));
    this.image.style.transform = `translate(-50%, -50%) translate(${this.#x}px, ${this.#y}px) scale(${this.#scale})`;
    this.stage.classList.toggle("asset-wide", mostX > 0 || mostY > 0);
    this.told.textContent = `${Math.round(this.#scale * 100)} %`;
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.#to(this.#scale * Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), event); // ctrl: a pinch on a touchpad
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] };
    const names = { "+": "in", "=": "in", "-": "out", 0: "fit", 1: "full" };
    if (event.key in moves) this.#pan(...moves[event.key]);
    else if (event.key in names) this.#act(names[event.key]);
    else return;
    event.preventDefault();
  }

  #hold(event) {
    if (event.button !== 0) return;
    this.stage.setPointerCapture(event.pointerId);
    this.#held.set(event.pointerId, event);
  }

  #move(event) {
    const before = this.#held.get(event.pointerId);
    if (!before) return;
    const other = [...this.#held.values()].find((one) => one.pointerId !== event.pointerId);
    this.#held.set(event.pointerId, event);
    if (!other) { this.#pan(event.clientX - before.clientX, event.clientY - before.clientY); return; }
    const apart = (one) => Math.max(1, Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY));
    const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
    this.#to(this.#scale * (apart(event) / apart(before)), middle);
  }
}
