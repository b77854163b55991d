"use strict";
// Shows each request anew whenever the site tells that it has changed. Without this the page shows what there is.
const list = document.getElementById("requests");
const state = document.getElementById("state");
const pause = document.getElementById("pause");
const missed = document.getElementById("missed");
let after = list.dataset.after;
let source;
let lost = 0;

function show({ data, lastEventId }) {
  after = lastEventId;
  const made = document.createElement("template");
  made.innerHTML = data;
  const block = made.content.firstElementChild;
  const old = document.getElementById(block.id);
  if (old) old.replaceWith(block);
  else list.insertBefore(block, [...list.children].find((other) => other.value < block.value) ?? null);
  while (list.children.length > 100) list.lastElementChild.remove();
  document.getElementById("none").hidden = true;
}

function begin() {
  source = new EventSource(list.dataset.events + after);
  source.onopen = () => { state.textContent = "Live."; };
  source.onerror = () => {
    state.textContent = source.readyState === EventSource.CLOSED
      ? "Not live: the site refuses. Reload to see why, or what there is."
      : "Not live: the site does not answer. Trying again …";
  };
  source.addEventListener("request", show);
  source.addEventListener("fresh", () => list.replaceChildren());
  source.addEventListener("missed", ({ data }) => {
    lost += Number(data);
    missed.textContent = ` This browser was too slow for ${lost} steps, which are not shown.`;
  });
}

pause.hidden = false;
pause.addEventListener("click", () => {
  const paused = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", paused);
  if (paused) {
    source.close();
    state.textContent = "Paused.";
  } else {
    begin();
  }
});
begin();
