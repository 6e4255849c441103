// Selecting by a band that is drawn with the mouse over the cells, from any place that is not a cell.

import { element } from "./text.js";

const LEAST = 5; // pixels: less is a click
const EDGE = 30; // pixels from the edge within which the list is scrolled

// `onBand` is called with {left, top, right, bottom} in pixels of `room` whenever the band changes; `onClick` when
// nothing was drawn.
export function bands(scroller, room, { onBegin, onBand, onClick }) {
  scroller.addEventListener("pointerdown", (event) => {
    const isOnBar = event.clientX > scroller.getBoundingClientRect().left + scroller.clientWidth;
    if (event.button !== 0 || event.pointerType === "touch" || isOnBar || event.target.closest("[data-index]")) return;
    draw(scroller, room, event, { onBegin, onBand, onClick });
  });
}

function draw(scroller, room, first, { onBegin, onBand, onClick }) {
  const from = placeIn(room, first);
  let shown = null;
  const move = (event) => {
    const to = placeIn(room, event);
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

function placeIn(room, event) {
  const box = room.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

function scrollAt(scroller, y) {
  const box = scroller.getBoundingClientRect();
  if (y < box.top + EDGE) scroller.scrollTop -= EDGE;
  else if (y > box.bottom - EDGE) scroller.scrollTop += EDGE;
}
