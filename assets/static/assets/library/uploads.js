// A queue of uploads: three at a time, each with its progress, speed, cancel and retry. Files are sent from where they
// lie; nothing is read into memory here.

import { makeFolder, refusal, token } from "./api.js";
import { element, size } from "./text.js";

const AT_ONCE = 3;
const DONE_SHOWN = 20;

export class Uploads {
  #waiting = [];
  #running = new Set();
  #done = [];
  #failed = new Set();

  constructor(panel, { onDone }) {
    this.panel = panel;
    this.onDone = onDone;
    this.list = panel.querySelector("ul");
    this.every = panel.querySelector("[data-all]");
    this.every.addEventListener("click", () => this.#pressAll());
    panel.querySelector("[data-close]").addEventListener("click", () => { panel.hidden = true; });
    addEventListener("beforeunload", (event) => { if (this.#running.size) event.preventDefault(); });
  }

  // `found` are {file, parent}: parent gives a promise of the id of the folder ("" is home).
  add(found) {
    for (const one of found) {
      const job = { ...one, row: element("li"), sent: 0 };
      this.#waiting.push(job);
      this.#show(job);
    }
    this.panel.hidden = !found.length && this.panel.hidden;
    this.#next();
  }

  #show(job) {
    job.bar = element("progress");
    job.bar.max = job.file.size || 1;
    job.bar.value = 0;
    job.bar.setAttribute("aria-label", `Upload of ${job.file.name}`);
    job.told = element("span", "lib-told", `${size(job.file.size)}, waiting`);
    job.button = element("button", "", "Cancel");
    job.button.type = "button";
    job.button.setAttribute("aria-label", `Cancel ${job.file.name}`);
    job.button.addEventListener("click", () => this.#press(job));
    job.row.append(element("span", "lib-name", job.file.name), job.bar, job.told, job.button);
    this.list.append(job.row);
  }

  #press(job) {
    if (job.error) {
      job.error = "";
      this.#failed.delete(job);
      job.button.textContent = "Cancel";
      job.button.setAttribute("aria-label", `Cancel ${job.file.name}`);
      job.told.textContent = `${size(job.file.size)}, waiting`;
      job.bar.value = 0;
      job.row.classList.remove("lib-failed");
      this.#waiting.push(job);
      this.#next();
      return;
    }
    job.cancelled = true;
    this.#waiting = this.#waiting.filter((other) => other !== job);
    job.request?.abort();
    job.row.remove();
    this.#count();
  }

  // Cancel what is left, or else try again what failed.
  #pressAll() {
    const left = [...this.#waiting, ...this.#running];
    for (const job of left.length ? left : [...this.#failed]) this.#press(job);
  }

  #next() {
    while (this.#running.size < AT_ONCE && this.#waiting.length) {
      const job = this.#waiting.shift();
      this.#running.add(job);
      this.#send(job).catch((error) => this.#fail(job, error)).finally(() => this.#end(job));
    }
    this.#count();
  }

  #end(job) {
    this.#running.delete(job);
    this.#next();
    if (!this.#running.size && !this.#waiting.length) this.onDone();
  }

  async #send(job) {
    const parent = await job.parent();
    if (job.cancelled) return;
    await new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      job.request = request;
      job.began = performance.now();
      request.open("POST", "/api/assets");
      request.setRequestHeader("X-CSRFToken", token());
      request.upload.addEventListener("progress", (event) => this.#progress(job, event.loaded));
      request.addEventListener("load", () => (request.status === 200 ? resolve() : reject(new Error(refusal(request)))));
      request.addEventListener("error", () => reject(new Error("The connection broke.")));
      request.addEventListener("abort", () => resolve());
      const form = new FormData();
      form.append("json", JSON.stringify({ name: job.file.name, ...(parent && { parent_id: parent }) }));
      form.append("file", job.file);
      request.send(form);
    });
    if (!job.cancelled) this.#finish(job);
  }

  #progress(job, sent) {
    const rate = sent / Math.max(0.001, (performance.now() - job.began) / 1000);
    job.bar.value = Math.min(sent, job.file.size);
    job.told.textContent = `${size(sent)} of ${size(job.file.size)}, ${size(rate)}/s`;
  }

  #finish(job) {
    job.bar.value = job.bar.max;
    job.told.textContent = `${size(job.file.size)}, done`;
    job.button.remove();
    this.#done.push(job.row);
    while (this.#done.length > DONE_SHOWN) this.#done.shift().remove();
  }

  #fail(job, error) {
    job.error = error.message;
    this.#failed.add(job);
    job.row.classList.add("lib-failed");
    job.told.textContent = error.message;
    job.button.textContent = "Retry";
    job.button.setAttribute("aria-label", `Retry ${job.file.name}`);
  }

  #count() {
    const left = this.#waiting.length + this.#running.size;
    const failed = this.#failed.size ? `, ${this.#failed.size} failed` : "";
    this.every.hidden = !left && !this.#failed.size;
    this.every.textContent = left ? "Cancel all" : "Retry all";
    this.panel.querySelector("strong").textContent = (left ? `Uploading, ${left} left` : "Uploads done") + failed;
  }
}

// What was dropped, with the folders that it lay in; folders are made as their first file needs them.
export async function dropped(transfer, target) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, parent: async () => target }));
  const found = [];
  for (const entry of entries) await walk(entry, async () => target, found);
  return found;
}

async function walk(entry, parent, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, parent });
    return;
  }
  let made = null;
  const make = async () => (await makeFolder(entry.name, await parent())).id;
  const folder = () => (made ??= make().catch((error) => { made = null; throw error; })); // a retry makes it anew
  const before = found.length;
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    for (const child of some) await walk(child, folder, found);
  }
  if (found.length === before) await folder(); // it is empty, and there all the same
}
