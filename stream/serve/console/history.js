// What was said and decided before: search, this week against last, export.
import { html, useState } from "./ui.js";
import { api } from "./api.js";
import { clock, plural, share, span } from "./format.js";
import { Bar, Empty, LabelChoice, Mark, Problem, When, useLoaded } from "./parts.js";
import { LABELS, UNKNOWN } from "./palette.js";

const NOTHING_SAID = { segments: 0, speech_s: 0, labels: {} };
const NOTHING = { words: "", label: "", party: "", from: "", to: "" };

/** A date of the form is a whole day of the reader's own time. */
const moments = ({ from, to, ...rest }) => ({
  ...rest,
  from: from && new Date(`${from}T00:00:00`).toISOString(),
  to: to && new Date(new Date(`${to}T00:00:00`).getTime() + 86400000).toISOString(),
});

function Weeks() {
  const [party, setParty] = useState("");
  const { value, error } = useLoaded(api.weeks, "weeks");
  if (error) return html`<${Problem} error=${error} />`;
  if (!value) return html`<p class="quiet">Loading.</p>`;
  const ofParty = (week) => (party ? week.parties[party] ?? NOTHING_SAID : week);
  const [current, previous] = [ofParty(value.current), ofParty(value.previous)];
  const parties = Object.keys({ ...value.current.parties, ...value.previous.parties }).filter(Boolean).sort();
  const of = (week, label) => (week.speech_s ? (week.labels[label] ?? 0) / week.speech_s : 0);
  const labels = [...LABELS, UNKNOWN].filter((label) => of(current, label) + of(previous, label) > 0);
  return html`<section class="card" aria-labelledby="weeks-title"><h2 id="weeks-title">This week against last</h2>
    <label class="field">Party <select value=${party} onChange=${(event) => setParty(event.target.value)}><option value="">all parties</option>
      ${parties.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
    <p class="quiet">${plural(current.segments, "segment")}, ${span(current.speech_s)} of speech; last week ${previous.segments ? `${plural(previous.segments, "segment")}, ${span(previous.speech_s)}` : "nothing"}.</p>
    ${labels.length ? html`<div class="scroll" tabindex="0" role="group" aria-label="Comparison of the weeks"><table class="weeks">
      <thead><tr><th scope="col">Label</th><th scope="col">This week</th><th scope="col">Last week</th><th scope="col">Change</th></tr></thead>
      <tbody>${labels.map((label) => {
        const [now, then] = [of(current, label), of(previous, label)];
        const points = Math.round((now - then) * 100);
        return html`<tr key=${label}><th scope="row"><${Mark} label=${label} /></th><td><${Bar} value=${now} label=${label} /> ${share(now)}</td>
          <td class="last">${previous.segments ? html`<${Bar} value=${then} label=${label} /> ${share(then)}` : "–"}</td>
          <td>${!previous.segments || !current.segments ? "–" : points > 0 ? `▲ ${points}` : points < 0 ? `▼ ${-points}` : "="}</td></tr>`;
      })}</tbody></table></div>` : html`<${Empty}>No speech in these two weeks.<//>`}</section>`;
}

/** The latest calls; the parties of a call are one row. */
function Calls() {
  const { value, error } = useLoaded(api.latestStreams, "calls");
  const calls = new Map();
  for (const stream of value ?? []) {
    const key = `${stream.run} ${stream.call}`;
    calls.set(key, [...(calls.get(key) ?? []), stream]);
  }
  return html`<section class="card" aria-labelledby="calls-title"><h2 id="calls-title">Latest calls</h2><${Problem} error=${error} />
    ${calls.size ? html`<ul class="plain calls">${[...calls].slice(0, 20).map(([key, streams]) => html`<li key=${key}>
      <${When} at=${streams[0].started} /> <a href=${`#/call/${streams[0].id}`}>${streams[0].call}</a>
      <span class="quiet"> ${plural(streams.reduce((sum, one) => sum + one.segments, 0), "segment")}, ${span(streams.reduce((sum, one) => sum + one.speech_s, 0))} of speech</span></li>`)}</ul>`
      : value && html`<${Empty}>No calls yet.<//>`}</section>`;
}

function Found({ rows }) {
  return html`<ul class="found">${rows.map((row) => html`<li key=${`${row.stream_id}.${row.segment}`} class=${`e-${row.corrected ?? row.label}`}>
    <a href=${`#/call/${row.stream_id}/${row.segment}`}><span class="found-head"><${When} at=${row.wall_time} />${row.label === "gap" ? html`<span class="quiet">gap</span>` : html`<${Mark} label=${row.corrected ?? row.label} />`}
      <span class="who">${row.stream}</span><span class="quiet right">${clock(row.start_s)}${row.confidence === null ? "" : `, confidence ${share(row.confidence)}`}${row.corrected ? `, corrected from ${row.label}` : ""}</span></span>
      <span class="said-text">${row.text || html`<span class="quiet">no words</span>`}</span></a></li>`)}</ul>`;
}

export function History() {
  const [refused, setRefused] = useState(null);
  const [form, setForm] = useState(NOTHING);
  const [asked, setAsked] = useState(NOTHING);
  const [more, setMore] = useState({ rows: [], next: undefined, error: null });
  const filters = moments(asked);
  const { value, error, again } = useLoaded(() => api.search(filters), JSON.stringify(asked));
  const set = (key) => (event) => setForm({ ...form, [key]: event.target ? event.target.value : event });
  const send = (event) => {
    event.preventDefault();
    setMore({ rows: [], next: undefined, error: null });
    setAsked(form);
    again();
  };
  const save = (path, text) => html`<a key=${text} class="button" href=${path} onClick=${(event) => {
    event.preventDefault();
    api.save(path).then(() => setRefused(null), setRefused);
  }}>${text}</a>`;
  const rows = [...(value?.segments ?? []), ...more.rows];
  const next = more.next === undefined ? value?.next : more.next;
  const older = () => api.search({ ...filters, before: next }).then(
    (page) => setMore({ rows: [...more.rows, ...page.segments], next: page.next, error: null }),
    (problem) => setMore({ ...more, error: problem }));
  return html`<div class="page history"><div class="head"><h1>History</h1>
      <div class="tools" role="group" aria-label="Export what was found"><span class="quiet">Export</span>
        ${["csv", "parquet", "vtt"].map((format) => save(api.exportAs(filters, format), format.toUpperCase()))}
        ${save(api.corrections, "Corrections")}</div></div>
    <${Problem} error=${refused} />
    <form class="card search" role="search" onSubmit=${send}>
      <label class="field wide">Words <input id="filter" type="search" value=${form.words} onInput=${set("words")} /></label>
      <label class="field">Label <${LabelChoice} value=${form.label} onChange=${set("label")} /></label>
      <label class="field">Party <input value=${form.party} onInput=${set("party")} placeholder="customer" /></label>
      <label class="field">From <input type="date" value=${form.from} onInput=${set("from")} /></label>
      <label class="field">To <input type="date" value=${form.to} onInput=${set("to")} /></label>
      <button class="primary">Search</button></form>
    <div class="columns"><section class="card" aria-labelledby="found-title"><h2 id="found-title">Segments</h2>
        <p class="quiet" role="status">${value ? `${rows.length}${next ? " newest" : ""} found` : "Searching"}</p>
        <${Problem} error=${error ?? more.error} />
        ${rows.length ? html`<${Found} rows=${rows} />` : value && html`<${Empty}>Nothing matches. Try fewer words or a longer time.<//>`}
        ${next && html`<button onClick=${older}>Older</button>`}</section><div class="stack"><${Weeks} /><${Calls} /></div></div></div>`;
}
