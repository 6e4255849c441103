// Folders as a tree whose branches are fetched when they are opened.

import { element } from "./text.js";

export class Tree {
  constructor(root, { children, onChoose }) {
    Object.assign(this, { root, children, onChoose, chosen: "" });
  }

  async load() {
    const list = element("ul");
    const home = this.#branch({ id: "", name: "Home" });
    list.append(home);
    this.root.replaceChildren(list);
    this.mark(this.chosen);
    await this.#open(home, "");
  }

  mark(id) {
    this.chosen = id;
    for (const button of this.root.querySelectorAll(".lib-folder-name")) {
      if (button.dataset.folder === id) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  #branch(folder) {
    const item = element("li");
    const twist = element("button", "lib-twist");
    twist.type = "button";
    twist.setAttribute("aria-expanded", "false");
    twist.setAttribute("aria-label", `Folders in ${folder.name}`);
    twist.addEventListener("click", () => this.#turn(item, folder.id));
    const name = element("button", "lib-folder-name", folder.name);
    name.type = "button";
    name.dataset.folder = folder.id;
    name.addEventListener("click", () => { this.mark(folder.id); this.onChoose(folder.id); });
    item.append(twist, name);
    return item;
  }

  async #turn(item, id) {
    const list = item.querySelector(":scope > ul");
    if (!list) { await this.#open(item, id); return; }
    list.remove();
    item.firstChild.setAttribute("aria-expanded", "false");
  }

  async #open(item, id) {
    const list = element("ul");
    item.append(list);
    item.firstChild.setAttribute("aria-expanded", "true");
    await this.#more(list, id, "");
  }

  async #more(list, id, cursor) {
    try {
      const page = await this.children(id, cursor);
      list.append(...page.assets.map((folder) => this.#branch(folder)));
      if (page.next) this.#offer(list, "More …", () => this.#more(list, id, page.next));
    } catch (error) {
      this.#offer(list, "Try again", () => this.#more(list, id, cursor)).title = error.message;
    }
    this.mark(this.chosen);
  }

  #offer(list, text, work) {
    const button = element("button", "lib-more", text);
    button.type = "button";
    button.addEventListener("click", () => { button.remove(); work(); });
    list.append(button);
    return button;
  }
}
