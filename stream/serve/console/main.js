// The frame of the console: who is logged in, the pages, the state of the connection.
import { html, render, useEffect, useState } from "./ui.js";
import { Alerts } from "./alerts.js";
import { api } from "./api.js";
import { Call } from "./call.js";
import { apply, putAlert, putStreams } from "./events.js";
import { span } from "./format.js";
import { History } from "./history.js";
import { Help, PAGES, setting, turnTheme, useKeys } from "./keys.js";
import { Live } from "./live.js";
import { Login } from "./login.js";
import { Microphone } from "./microphone.js";
import { useNow } from "./parts.js";
import { useRoute } from "./route.js";
import { flush, setLink, state, useStore } from "./store.js";
import { System } from "./system.js";
import { Wall } from "./wall.js";

const theme = setting.get("theme");
if (theme) document.documentElement.dataset.theme = theme;

/** Load what events alone do not say: the streams that are open, and the alerts. */
async function refresh() {
  putStreams(await api.streams());
  for (const event of await api.nodes()) apply(event);
  // a damaged history must not hide what is live
  const alerts = await api.alerts().catch((error) => { setLink({ text: `Alerts are missing. ${error.message}` }); return []; });
  alerts.forEach(putAlert);
  flush();
}

function Link() {
  const { link } = useStore("link");
  const now = useNow(1);
  const age = (now - link.since) / 1000;
  const lost = link.state === "lost";
  const text = lost ? `Connection lost ${span(age)} ago. ${link.text} Trying again.` : link.text;
  return html`<div class=${`link link-${link.state}`} role="status" aria-live="polite">
    ${lost || (text && age < 60) ? html`<p>${lost ? html`<span class="flag">offline</span> Connection lost. ${link.text} Trying again.<span aria-hidden="true" class="quiet"> ${span(age)}</span>` : text}</p>` : ""}
    ${link.dropped > 0 && html`<p>${link.dropped} events were dropped since this page was opened. Stored ones were fetched again.</p>`}</div>`;
}

/** Say a new alert to screen readers, one at a time, and no older ones. */
function Announcer() {
  const { alerts } = useStore("alerts");
  const [from] = useState(() => Math.max(0, ...alerts.keys()));
  const fresh = [...alerts.values()].filter((alert) => alert.number > from && !alert.by).at(-1);
  return html`<p class="sr" role="status">${fresh ? `Alert: ${fresh.rule}, ${fresh.stream ?? ""}` : ""}</p>`;
}

function Nav({ page, who, help, leave }) {
  const { alerts, link } = useStore("alerts", "link");
  const open = [...alerts.values()].filter((alert) => !alert.by).length;
  return html`<header class="bar"><a class="brand" href="#/wall"><img src="/console/icon.svg" alt="" width="26" height="26" />Abhinaya</a>
    <nav aria-label="Pages">${PAGES.map(([path, name]) => html`<a key=${path} href=${`#/${path}`} aria-current=${page === path || (page === "call" && path === "wall") ? "page" : undefined}>${name}
      ${path === "alerts" && open > 0 && html`<b class="flag">${open}<span class="sr"> open</span></b>`}</a>`)}</nav>
    <span class=${`dot dot-${link.state}`}>${link.state}</span>
    <button class="icon" onClick=${turnTheme} aria-label="Dark or light">◐</button>
    <button class="icon" onClick=${help} aria-label="Keyboard shortcuts">?</button>
    <button class="icon leave" title=${`${who.name}, ${who.role}`} onClick=${leave}>Log out</button></header>`;
}

function Page({ route: [page, first, second] }) {
  if (page === "call" && first) return html`<${Call} id=${Number(first)} segment=${second === undefined ? undefined : Number(second)} />`;
  if (page === "alerts") return html`<${Alerts} />`;
  if (page === "history") return html`<${History} />`;
  if (page === "system") return html`<${System} />`;
  if (page === "microphone") return html`<${Microphone} />`;
  return html`<${Wall} board=${first === "board"} />`;
}

function Console({ who, leave, live }) {
  const route = useRoute();
  const [helping, help] = useState(false);
  useKeys(() => help(true));
  useEffect(() => { window.abhinaya.live = live; live.connect(); }, []);
  useEffect(() => { document.title = `${route[0][0].toUpperCase()}${route[0].slice(1)} · Abhinaya`; }, [route]);
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>Skip to the page</a>
    <${Nav} page=${route[0]} who=${who} help=${() => help(true)} leave=${leave} /><${Link} /><${Announcer} />
    <main id="main" tabindex="-1"><${Page} route=${route} /></main>
    ${helping && html`<${Help} close=${() => help(false)} />`}`;
}

function App() {
  const [who, setWho] = useState(undefined);
  const enter = () => api.session().then(setWho, () => setWho(null));
  const [live] = useState(() => new Live({ open: api.events, refresh, refused: () => setWho(null) }));
  useEffect(() => { enter(); }, []);
  const leave = () => api.logout().finally(() => { live.stop(); setWho(null); });
  if (who === undefined) return html`<p class="empty">Loading.</p>`;
  return who ? html`<${Console} who=${who} leave=${leave} live=${live} />` : html`<${Login} done=${enter} />`;
}

render(html`<${App} />`, document.getElementById("app"));
window.abhinaya = { state }; // for a look from the console of the browser, and for the scenes
