// The health of the parts, asked once.

import { element } from "./text.js";

const list = document.getElementById("health");

function line(name, part) {
  const isGood = part.status === "ok";
  const rest = part.detail ? `: ${part.detail}` : isGood ? "" : `: ${part.status}`;
  return element("li", isGood ? "board-good" : "board-failed", `${name}${rest}, ${Math.round(part.ms)} ms`);
}

if (list) {
  try {
    const answer = await fetch("/readyz");
    const { status, ...parts } = await answer.json();
    const all = element("li", status === "ok" ? "" : "board-failed", status === "ok" ? "Every part answers." : `All together: ${status}`);
    list.replaceChildren(all, ...Object.entries(parts).map(([name, part]) => line(name, part)));
  } catch (error) { list.replaceChildren(element("li", "board-failed", error.message)); }
}
