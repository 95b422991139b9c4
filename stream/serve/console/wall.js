// The wall: every stream, what needs attention first. Only the rows in view exist in the document.
import { html, memo, useEffect, useLayoutEffect, useRef, useState } from "./ui.js";
import { byNeed, step, STEPS } from "./attention.js";
import { api } from "./api.js";
import { plural, span } from "./format.js";
import { Empty, Level, Mark, Problem, useNow } from "./parts.js";
import { go } from "./route.js";
import { useStore } from "./store.js";

const SORT_MS = 1500; // rows that jump at each event cannot be read
const RESTS_MS = 4000; // the order stays after a move of the pointer, a key or a scroll
const TILES = 12;
const FEW = 4; // tiles that get larger letters
const SPARE = 4; // rows drawn beyond the edges

/** Return the rows in order; it changes at most once in SORT_MS, and not while the list rests. */
function useOrder(streams, fits, resting) {
  const order = useRef({ at: 0, ids: [], key: "" });
  const now = performance.now();
  const old = order.current;
  const rows = old.ids.map((id) => streams.get(id)).filter(Boolean);
  const fresh = old.key === fits.key && rows.length === old.size && streams.size === old.total;
  if (fresh && (resting || now - old.at < SORT_MS)) return rows;
  const sorted = [...streams.values()].filter(fits.test).sort(byNeed);
  order.current = { at: now, ids: sorted.map((one) => one.id), key: fits.key, size: sorted.length, total: streams.size };
  return sorted;
}

const Row = memo(({ row, age, index, top, chosen }) => {
  const need = step(row);
  const words = row.partial?.words || row.words;
  return html`<div role="row" aria-rowindex=${index + 2}
      class=${`row need-${need} e-${row.label || "unknown"}${row.ended ? " ended" : ""}${chosen ? " chosen" : ""}`}
      style=${{ transform: `translateY(${top}px)` }}>
    <span role="cell" class="c-label">${row.judged && row.label ? html`<${Mark} label=${row.label} />` : html`<span class="quiet">${row.judged ? "waiting" : "not judged"}</span>`}</span>
    <span role="cell" class="c-level">${row.judged && html`<${Level} step=${need} />`}</span>
    <span role="cell" class="c-name"><a href=${`#/call/${row.id}`}>${row.party || row.call}</a>${row.party && html`<span class="quiet">${row.call}</span>`}</span>
    <span role="cell" class=${`c-words${row.partial ? " partial" : ""}`}>${words}</span>
    <span role="cell" class="c-alerts">${row.openAlerts > 0 && html`<b class="flag">${plural(row.openAlerts, "alert")}</b>`}</span>
    <span role="cell" class="c-time">${row.ended ? "ended" : row.speaking ? html`<b>speaking</b>` : age}</span>
  </div>`;
});

const HEADS = ["Label", "Attention", "Who", "Last words", "Alerts", "For"];

function List({ rows, now, onUse }) {
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, height: 800, row: 48 });
  const [chosen, choose] = useState(-1);
  const measure = () => {
    if (!box.current) return;
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const row = rem * parseFloat(getComputedStyle(box.current).getPropertyValue("--row"));
    setView({ top: box.current.scrollTop, height: box.current.clientHeight, row });
  };
  useLayoutEffect(() => {
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  const move = (event) => {
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (event.key === "Enter" && rows[chosen] && event.target === box.current) go(`call/${rows[chosen].id}`);
    if (!steps) return;
    event.preventDefault();
    onUse();
    const next = Math.max(0, Math.min(rows.length - 1, chosen + steps));
    choose(next);
    const { row } = view;
    const el = box.current;
    if (next * row < el.scrollTop) el.scrollTop = next * row;
    if ((next + 1) * row > el.scrollTop + el.clientHeight - 40) el.scrollTop = (next + 1) * row - el.clientHeight + 40;
  };
  const first = Math.max(0, Math.floor(view.top / view.row) - SPARE);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / view.row) + SPARE);
  return html`<div class="list" ref=${box} role="table" aria-label="Streams" aria-rowcount=${rows.length + 1} tabindex="0"
      aria-describedby="list-help" onScroll=${() => { onUse(); measure(); }} onKeyDown=${move}
      onPointerMove=${onUse}>
    <div role="row" class="row heads" aria-rowindex="1">${HEADS.map((name) => html`<span key=${name} role="columnheader">${name}</span>`)}</div>
    <div class="rows" role="rowgroup" style=${{ height: `${rows.length * view.row}px` }}>${rows.slice(first, last).map((row, i) => html`
      <${Row} key=${row.id} row=${row} index=${first + i} top=${(first + i) * view.row} chosen=${first + i === chosen}
        age=${span((now - row.since) / 1000)} />`)}</div></div>`;
}

/** The wallboard: large tiles, as many as fit, readable from three metres. */
function Board({ rows, now }) {
  const shown = rows.filter((row) => !row.ended).slice(0, TILES);
  if (!shown.length) return html`<${Empty}>No stream is live.<//>`;
  return html`<ul class=${`board${shown.length <= FEW ? " few" : ""}`} aria-label="Streams that need attention most">${shown.map((row) => html`
    <li key=${row.id} class=${`tile need-${step(row)} e-${row.label || "unknown"}`}><a href=${`#/call/${row.id}`}>
      <span class="tile-label">${row.judged ? html`<${Mark} label=${row.label || "unknown"} />` : html`<span class="quiet">not judged</span>`}</span>
      <b class="tile-name">${row.party ? `${row.party}, ${row.call}` : row.call}</b>
      <span class="tile-words">${row.words}</span>
      <span class="tile-foot">${row.judged ? html`<${Level} step=${step(row)} />` : html`<span />`}<span>${span((now - row.since) / 1000)}</span></span></a></li>`)}</ul>`;
}

function Counts({ rows }) {
  const live = rows.filter((row) => !row.ended);
  const counts = [3, 2, 1, 0].map((need) => [need, live.filter((row) => step(row) === need).length]);
  return html`<p class="counts"><b>${live.length}</b> live${counts.map(([need, n]) => html`
    <span key=${need} class=${`count need-${need}${n ? "" : " zero"}`}><b>${n}</b> ${STEPS[need]}</span>`)}</p>`;
}

export function Wall({ board }) {
  const state = useStore("streams");
  const now = useNow(1);
  const [filter, setFilter] = useState("");
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const used = useRef(-RESTS_MS);
  const text = filter.trim().toLowerCase();
  const rows = useOrder(state.streams, {
    key: text,
    test: (row) => !text || `${row.name} ${row.label} ${row.words}`.toLowerCase().includes(text),
  }, performance.now() - used.current < RESTS_MS);
  useEffect(() => {
    document.documentElement.classList.toggle("wallboard", board);
    return () => document.documentElement.classList.remove("wallboard");
  }, [board]);
  const demo = () => {
    setBusy(true);
    api.demo().then(() => setProblem(null), setProblem).finally(() => setBusy(false));
  };
  if (board) return html`<div class="page"><h1 class="sr">Wallboard</h1>
      <div class="head"><${Counts} rows=${[...state.streams.values()]} /><a class="button tools" href="#/wall">Close</a></div><${Board} rows=${rows} now=${now} /></div>`;
  return html`<div class="page wall">
    <div class="head"><h1>Wall</h1><${Counts} rows=${[...state.streams.values()]} />
      <div class="tools"><label class="sr" for="filter">Filter streams</label>
        <input id="filter" type="search" placeholder="Filter by name, label, words" value=${filter} onInput=${(event) => setFilter(event.target.value)} />
        <button onClick=${demo} disabled=${busy}>Play the demo call</button>
        <a class="button" href="#/wall/board">Wallboard</a></div></div>
    <${Problem} error=${problem} />
    <p id="list-help" class="sr">Arrow keys choose a row, Enter opens its call.</p>
    ${state.streams.size ? html`<${List} rows=${rows} now=${now} onUse=${() => { used.current = performance.now(); }} />`
      : html`<${Empty}>No stream yet. Play the demo call, speak into the microphone, or send audio to the API.<//>`}</div>`;
}
