// Small elements that several pages use.
import { html, useEffect, useRef, useState } from "./ui.js";
import { STEPS } from "./attention.js";
import { COLOURS, LABELS, LETTERS } from "./palette.js";
import { known, moment } from "./format.js";

/** A label: letter on its colour, and its name. */
export function Mark({ label, partial, bare }) {
  const name = known(label);
  return html`<span class=${`mark e-${name}${partial ? " partial" : ""}`}
    ><b class="chip" aria-hidden="true">${LETTERS[name]}</b>${bare ? html`<span class="sr">${name}</span>` : name}</span>`;
}

/** The level of attention: four bars and a word. */
export function Level({ step }) {
  return html`<span class=${`level level-${step}`}><i aria-hidden="true"><b /><b /><b /></i>${STEPS[step]}</span>`;
}

/** A bar from 0 to 1 in the colour of a label. */
export function Bar({ value, label }) {
  return html`<span class=${`meter ${label ? `e-${known(label)}` : ""}`} aria-hidden="true"
    ><i style=${{ width: `${Math.round(Math.max(0, Math.min(1, value)) * 100)}%` }} /></span>`;
}

/** A bar that shares are parts of: [{label, share, text}]. */
export function Shares({ parts, name }) {
  const text = parts.map((part) => part.text).join(", ");
  return html`<div class="shares" role="img" aria-label=${`${name}: ${text}`}>${parts.map((part) => html`
    <i key=${part.label} class=${`e-${part.label}`} title=${part.text} style=${{ flexGrow: part.share }}
      >${part.share > 0.07 ? LETTERS[part.label] : ""}</i>`)}</div>`;
}

/** Choose a label or all. */
export function LabelChoice({ value, onChange, id, all = "all labels" }) {
  return html`<select id=${id} value=${value} onChange=${(event) => onChange(event.target.value)}>
    <option value="">${all}</option>
    ${LABELS.map((label) => html`<option key=${label} value=${label}>${label}</option>`)}</select>`;
}

export function Empty({ children }) { return html`<p class="empty">${children}</p>`; }

/** An error of the API: what, and what to do. */
export function Problem({ error }) {
  return error && html`<p class="problem" role="alert"><b>${error.message}</b> ${error.remedy ?? ""}</p>`;
}

export function When({ at }) {
  const date = new Date(at);
  return html`<time datetime=${Number.isNaN(date.getTime()) ? "" : date.toISOString()}>${moment(at)}</time>`;
}

/** Render again each `seconds`, and return the time now in milliseconds. */
export function useNow(seconds = 1) {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => set(Date.now()), seconds * 1000);
    return () => clearInterval(timer);
  }, [seconds]);
  return now;
}

/** Load something once for each `key`; returns {value, error, again}. */
export function useLoaded(load, key) {
  const [got, set] = useState({});
  const [round, renew] = useState(0);
  useEffect(() => {
    let here = true;
    load().then((value) => here && set({ value }), (error) => here && set({ error }));
    return () => { here = false; };
  }, [key, round]);
  return { ...got, again: () => renew((n) => n + 1) };
}

/** A chart by uPlot that follows its element's width and the theme. */
export function Chart({ data, series, height = 140, y, name }) {
  const place = useRef(null);
  const chart = useRef(null);
  useEffect(() => {
    const css = getComputedStyle(document.documentElement);
    const ink = css.getPropertyValue("--quiet");
    const line = css.getPropertyValue("--line");
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const made = new window.uPlot({
      width: place.current.clientWidth || 300, height, legend: { show: false }, cursor: { show: false },
      scales: { x: { time: true }, y: y ?? {} },
      axes: [
        { ...axis, size: 24, space: 90, incrs: [5, 10, 30, 60, 120, 300], values: (_, ticks) => ticks.map((at) => moment(at * 1000).slice(-8)) },
        { ...axis, size: 40 },
      ],
      series: [{}, ...series.map((one) => ({ width: 2, points: { show: false }, ...one, stroke: one.stroke ?? COLOURS[one.label] }))],
    }, data, place.current);
    chart.current = made;
    const watch = new ResizeObserver(() => place.current && made.setSize({ width: place.current.clientWidth, height }));
    watch.observe(place.current);
    return () => { watch.disconnect(); made.destroy(); chart.current = null; };
  }, [document.documentElement.dataset.theme, series.length]);
  useEffect(() => { chart.current?.setData(data); }, [data]);
  return html`<div class="chart" role="img" aria-label=${name} ref=${place} />`;
}
