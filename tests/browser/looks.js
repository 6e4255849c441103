// Evaluated in a page by the tests: what cannot be read well, and what does not show that it has the focus.
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const known = new Map();

  function read(color) {
    if (!known.has(color)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
      const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
      known.set(color, [red, green, blue, alpha / 255]);
    }
    return known.get(color);
  }

  const over = (above, below) => [0, 1, 2].map((i) => above[i] * above[3] + below[i] * (1 - above[3])).concat(1);

  // What lies behind an element, from the first opaque ground upwards.
  function ground(shown) {
    const layers = [];
    for (let one = shown; one; one = one.parentElement) {
      const color = read(getComputedStyle(one).backgroundColor);
      layers.push(color);
      if (color[3] === 1) break;
    }
    const isDark = matchMedia("(prefers-color-scheme: dark)").matches && getComputedStyle(document.documentElement).colorScheme.includes("dark");
    return layers.reduceRight((below, above) => over(above, below), isDark ? [18, 18, 18, 1] : [255, 255, 255, 1]);
  }

  function luminance([red, green, blue]) {
    const [r, g, b] = [red, green, blue].map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  function contrast(one, other) {
    const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  }

  function opacity(shown) {
    let all = 1;
    for (let one = shown; one; one = one.parentElement) all *= Number(getComputedStyle(one).opacity);
    return all;
  }

  function isSeen(shown) {
    const box = shown.getBoundingClientRect();
    return box.width > 2 && box.height > 2 && shown.checkVisibility({ visibilityProperty: true });
  }

  // Texts of a page as [element, text, color]: nodes, values and placeholders of fields.
  function* texts() {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const shown = node.parentElement;
      if (!node.data.trim() || ["SCRIPT", "STYLE", "OPTION", "TITLE", "title"].includes(shown.tagName)) continue;
      const style = getComputedStyle(shown);
      yield [shown, node.data, shown instanceof SVGElement ? style.fill : style.color];
    }
    for (const field of document.querySelectorAll("input, select, textarea")) {
      if (["checkbox", "radio", "hidden", "file", "range"].includes(field.type)) continue;
      if (field.value) yield [field, field.value, getComputedStyle(field).color];
      else if (field.placeholder) yield [field, field.placeholder, getComputedStyle(field, "::placeholder").color];
    }
  }

  function needed(style) {
    const size = Number.parseFloat(style.fontSize);
    return size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
  }

  function behind(shown) {
    const box = shown instanceof SVGElement && shown.parentElement.querySelector("rect");
    return box ? over(read(getComputedStyle(box).fill), ground(shown)) : ground(shown);
  }

  function pale() {
    const found = new Map();
    let seen = 0;
    for (const [shown, text, color] of texts()) {
      if (shown.closest(":disabled") || !isSeen(shown)) continue;
      seen += 1;
      const below = behind(shown);
      const drawn = read(color);
      const ratio = contrast(over([...drawn.slice(0, 3), drawn[3] * opacity(shown)], below), below);
      const style = getComputedStyle(shown);
      if (ratio < needed(style)) {
        const name = `${shown.tagName.toLowerCase()}.${shown.getAttribute("class") ?? ""}#${shown.id} ${color} on ${below.map(Math.round)}`;
        found.set(name, `${name}: ${ratio.toFixed(2)} “${text.trim().slice(0, 30)}”`);
      }
    }
    return { seen, found: [...found.values()] };
  }

  const MARKS = ["outlineStyle", "outlineWidth", "outlineColor", "boxShadow", "borderTopColor", "backgroundColor"];
  const marks = (shown) => { const style = getComputedStyle(shown); return MARKS.map((name) => style[name]).join("|"); };

  // A key must have been pressed before, so that focus is one that is to be seen.
  function unmarked() {
    const found = [];
    let seen = 0;
    for (const shown of document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")) {
      if (shown.disabled || shown.type === "hidden" || !isSeen(shown)) continue;
      document.activeElement?.blur();
      const before = marks(shown);
      shown.focus({ preventScroll: true });
      if (document.activeElement !== shown) continue;
      seen += 1;
      if (marks(shown) === before) found.push(shown.outerHTML.slice(0, 120));
    }
    return { seen, found };
  }

  return { pale: pale(), unmarked: unmarked() };
})()
