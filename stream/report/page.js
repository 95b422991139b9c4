"use strict";
const by = (id) => document.getElementById(id);
by("theme").hidden = false;
by("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
const form = document.querySelector(".filters");
if (form) {
  form.hidden = false;
  const parts = [...document.querySelectorAll(".transcript details")];
  let waiting = 0;
  const filter = () => {
    const words = by("words").value.trim().toLowerCase();
    const label = by("label").value;
    const stream = by("stream").value && by("stream").selectedOptions[0].textContent;
    const any = Boolean(words || label || stream);
    let found = 0;
    for (const part of parts) {
      let here = 0;
      for (const row of part.querySelectorAll("li")) {
        const shown = (!label || row.classList.contains(label))
          && (!stream || row.querySelector(".who").textContent === stream)
          && (!words || row.querySelector(".said").textContent.toLowerCase().includes(words));
        row.hidden = !shown;
        here += shown;
      }
      part.hidden = here === 0;
      if (any) part.open = here > 0;
      found += here;
    }
    by("found").textContent = any ? found + " found" : "";
  };
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
  form.addEventListener("submit", (event) => event.preventDefault());
}
