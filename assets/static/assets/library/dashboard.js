// The health of the parts, asked once.

import { element } from "./text.js";

const list = document.getElementById("health");
if (list) {
  try {
    const answer = await fetch("/readyz");
    const { status, ...parts } = await answer.json();
    const lines = Object.entries(parts).map(([name, part]) => {
      const line = element("li", part.status === "ok" ? "" : "board-failed");
      line.textContent = `${name}: ${part.status}, ${Math.round(part.ms)} ms${part.detail ? `. ${part.detail}` : ""}`;
      return line;
    });
    list.replaceChildren(element("li", "", `All together: ${status}`), ...lines);
  } catch (error) { list.replaceChildren(element("li", "board-failed", error.message)); }
}
