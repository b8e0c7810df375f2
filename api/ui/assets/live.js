// The pages work without this script. It shows the progress of a job without loading the page again, and ticks all boxes of a list.
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
for (const all of document.querySelectorAll("[data-all]")) {
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const box of document.querySelectorAll("input[name='" + all.dataset.all + "']")) box.checked = all.checked;
  });
}
