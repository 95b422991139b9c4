// Shortcuts, and the page that lists them.
import { html, useEffect, useRef, useState } from "./ui.js";
import { go } from "./route.js";

export const PAGES = [["wall", "Wall", "w"], ["alerts", "Alerts", "a"], ["history", "History", "h"], ["system", "System", "s"], ["microphone", "Add audio", "m"]];
const OTHERS = [["b", "Wallboard on and off"], ["/", "Filter or search"], ["c", "Correct the chosen segment"], ["n, p", "Next, previous segment of a call"],
  ["d", "Dark or light"], ["?", "This list"], ["Esc", "Close"]];

export const setting = {
  get: (name) => { try { return localStorage.getItem(`abhinaya.${name}`); } catch { return null; } },
  set: (name, value) => { try { localStorage.setItem(`abhinaya.${name}`, value); } catch { /* a private window keeps nothing */ } },
};

/** Dark or light: what the person chose, else what the system says. */
export function turnTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  setting.set("theme", root.dataset.theme);
}

const typing = (target) => target.isContentEditable || ["INPUT", "SELECT", "TEXTAREA"].includes(target.tagName);

/** Choose the segment beside the chosen one in the transcript. */
function beside(steps) {
  const all = [...document.querySelectorAll(".said button")];
  const at = all.findIndex((one) => one.getAttribute("aria-pressed") === "true");
  const next = all[at < 0 ? all.length - 1 : Math.max(0, Math.min(all.length - 1, at + steps))];
  next?.click();
  next?.scrollIntoView({ block: "nearest" });
}

/** Listen to the keyboard while the console is open. */
export function useKeys(help) {
  useEffect(() => {
    const press = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Escape") {
        if (document.documentElement.classList.contains("wallboard")) go("wall");
        event.target.blur?.();
        return;
      }
      if (typing(event.target) || setting.get("keys") === "off") return;
      const page = PAGES.find(([, , key]) => key === event.key);
      const acts = {
        "?": help, d: turnTheme, n: () => beside(1), p: () => beside(-1),
        b: () => go(location.hash.includes("wall/board") ? "wall" : "wall/board"),
        "/": () => document.getElementById("filter")?.focus(),
        c: () => document.querySelector(".choices button")?.focus(),
      };
      const act = page ? () => go(page[0]) : acts[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

export function Help({ close }) {
  const dialog = useRef(null);
  const [on, setOn] = useState(setting.get("keys") !== "off");
  useEffect(() => { dialog.current.showModal(); }, []);
  const turn = (event) => { setOn(event.target.checked); setting.set("keys", event.target.checked ? "on" : "off"); };
  return html`<dialog ref=${dialog} onClose=${close} class="card" aria-labelledby="keys-title"><h2 id="keys-title">Keyboard</h2>
    <dl class="keys">${[...PAGES.map(([, name, key]) => [key, name]), ...OTHERS].map(([key, text]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${text}</dd></div>`)}</dl>
    <label class="check"><input type="checkbox" checked=${on} onChange=${turn} /> Shortcuts of one letter</label>
    <p><button class="primary" onClick=${() => dialog.current.close()}>Close</button></p></dialog>`;
}
