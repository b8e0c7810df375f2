// The pages work without this script. It shows the progress of what goes on without loading the page again, and ticks all boxes of a list.
"use strict";
for (const place of document.querySelectorAll("[data-events]")) {
  const source = new EventSource(place.dataset.events);
  source.onmessage = (event) => {
    const job = JSON.parse(event.data);
    place.querySelector("progress").value = job.percent;
    place.querySelector("[data-text]").textContent = job.text;
    if (job.ended) {
      source.close();
      location.reload();
    }
  };
  source.addEventListener("gone", () => source.close());
}
// The part of a page that changes is asked for again, until it says that it changes no more.
const follow = async () => {
  const place = document.querySelector("[data-poll]");
  if (!place) return;
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-poll]");
    if (!answer.ok || !fresh) return location.reload();
    const status = place.querySelector("[role=status]"), said = fresh.querySelector("[role=status]");
    if (status && said && status.textContent !== said.textContent) status.textContent = said.textContent;
    const bar = place.querySelector("progress"), done = fresh.querySelector("progress");
    if (bar && done) bar.value = done.value;
  } catch {} // the server may be restarted at this moment
  setTimeout(follow, 2000);
};
setTimeout(follow, 2000);
// What is shown once does not stay in the memory of the browser either, from which a page that one goes back to may come.
addEventListener("pagehide", () => document.querySelectorAll(".secret").forEach((place) => place.remove()));
// A second click would show the refusal of the second form in place of what the first one did.
addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});
addEventListener("pageshow", () => document.querySelectorAll("[data-sent]").forEach((form) => delete form.dataset.sent));
for (const all of document.querySelectorAll("[data-all]")) {
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const box of document.querySelectorAll("input[name='" + all.dataset.all + "']")) box.checked = all.checked;
  });
}
