// Selecting by a band that is drawn with the mouse over the cells, from any place around them that does nothing itself.

import { element } from "./text.js";

const LEAST = 5; // pixels: less is a click
const BUSY = "[data-index], button, a, input, select, label, summary, li"; // does something itself
const EDGE = 30; // pixels from the edge within which the list is scrolled

// `onBand` is called with {left, top, right, bottom} in pixels of `room` whenever the band changes; `onClick` when
// nothing was drawn. It may begin anywhere in `around`, which holds the scroller.
export function bands(scroller, room, { around, onBegin, onBand, onClick }) {
  around.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.pointerType === "touch" || isOnBar(event) || event.target.closest(BUSY)) return;
    draw(scroller, room, event, { onBegin, onBand, onClick });
  });
}

function isOnBar(event) {
  const box = event.target.getBoundingClientRect();
  const { clientWidth, clientHeight, clientLeft, clientTop } = event.target;
  return event.clientX > box.left + clientLeft + clientWidth || event.clientY > box.top + clientTop + clientHeight;
}

function draw(scroller, room, first, { onBegin, onBand, onClick }) {
  const from = placeIn(scroller, room, first);
  let shown = null;
  const move = (event) => {
    const to = placeIn(scroller, room, event);
    if (!shown && Math.hypot(to.x - from.x, to.y - from.y) < LEAST) return;
    if (!shown) {
      shown = room.appendChild(element("div", "lib-band"));
      onBegin(first);
    }
    const box = { left: Math.min(from.x, to.x), top: Math.min(from.y, to.y), right: Math.max(from.x, to.x), bottom: Math.max(from.y, to.y) };
    shown.style.transform = `translate(${box.left}px, ${box.top}px)`;
    shown.style.width = `${box.right - box.left}px`;
    shown.style.height = `${box.bottom - box.top}px`;
    onBand(box);
    scrollAt(scroller, event.clientY);
  };
  const end = (event) => {
    for (const [name, listener] of Object.entries(listeners)) scroller.removeEventListener(name, listener);
    if (shown) shown.remove();
    else if (event.type === "pointerup") onClick(event);
  };
  const listeners = { pointermove: move, pointerup: end, pointercancel: end };
  scroller.setPointerCapture(first.pointerId);
  for (const [name, listener] of Object.entries(listeners)) scroller.addEventListener(name, listener);
}

// A place in pixels of the room; what lies outside of the scroller counts as its edge.
function placeIn(scroller, room, event) {
  const [edge, box] = [scroller.getBoundingClientRect(), room.getBoundingClientRect()];
  const x = Math.max(edge.left, Math.min(edge.left + scroller.clientWidth, event.clientX));
  const y = Math.max(edge.top, Math.min(edge.top + scroller.clientHeight, event.clientY));
  return { x: x - box.left, y: y - box.top };
}

function scrollAt(scroller, y) {
  const box = scroller.getBoundingClientRect();
  if (y < box.top + EDGE) scroller.scrollTop -= EDGE;
  else if (y > box.bottom - EDGE) scroller.scrollTop += EDGE;
}
