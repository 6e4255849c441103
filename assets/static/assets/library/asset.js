// The page of an asset: zoom, share, replace.

import { ask, refusal, token } from "./api.js";
import { size } from "./text.js";
import { Zoom } from "./zoom.js";

const page = document.getElementById("asset-view");
const told = document.getElementById("asset-told");
const id = page.dataset.asset;

const stage = page.querySelector(".asset-image");
if (stage) new Zoom(stage, { tools: document.getElementById("zoom"), told: document.getElementById("zoom-told") });

document.getElementById("share")?.addEventListener("click", async () => {
  const life = Number(document.getElementById("share-life").value);
  try {
    const answer = await ask("POST", "/api/assets/urls", { asset_ids: [id], expires_in: life });
    const link = document.getElementById("share-link");
    link.value = answer.urls[id];
    link.hidden = false;
    link.select();
    told.textContent = "Whoever has this link reads the asset until it ends.";
    await navigator.clipboard?.writeText(link.value).then(() => { told.textContent += " It is copied."; }, () => {});
  } catch (error) { told.textContent = error.message; }
});

page.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch { told.textContent = button.dataset.copy; }
});

const chosen = document.getElementById("replacement");
document.getElementById("replace")?.addEventListener("click", () => chosen.click());
chosen?.addEventListener("change", () => {
  const [file] = chosen.files;
  if (!file) return;
  const request = new XMLHttpRequest();
  request.open("PUT", `/api/assets/${id}/content`);
  request.setRequestHeader("X-CSRFToken", token());
  if (file.type) request.setRequestHeader("Content-Type", file.type);
  request.upload.addEventListener("progress", (event) => {
    told.textContent = `${size(event.loaded)} of ${size(file.size)}`;
  });
  request.addEventListener("error", () => { told.textContent = "The connection broke. The asset is as it was."; });
  request.addEventListener("load", () => {
    if (request.status === 200) location.reload();
    else told.textContent = refusal(request);
  });
  request.send(file);
});
