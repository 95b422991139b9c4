// A call: its parties side by side on one time line, and the segment that is chosen.
import { html, memo, useEffect, useMemo, useRef, useState } from "./ui.js";
import { step } from "./attention.js";
import { api } from "./api.js";
import { apply, newRow } from "./events.js";
import { clock, known, ms, share } from "./format.js";
import { Detail } from "./detail.js";
import { Empty, Level, Mark, Problem, Shares, useLoaded } from "./parts.js";
import { LABELS, UNKNOWN } from "./palette.js";
import { go } from "./route.js";
import { state, touch, useStore, version } from "./store.js";
import { talk } from "./talk.js";
import { Timeline } from "./timeline.js";

const SHOWN = 300; // segments of the transcript, before "Show earlier"

/** Load the events of every stream of the call; what happens meanwhile is not missed. */
async function load(id) {
  const { call, run } = state.streams.get(id) ?? await api.stream(id);
  for (const one of await api.streamsOfCall(call)) {
    if (one.run === run && !state.streams.has(one.id)) {
      state.streams.set(one.id, { ...newRow(one.id, one.name), ...one, ended: Boolean(one.ended) });
    }
  }
  const ids = [...state.streams.values()].filter((one) => one.call === call && one.run === run).map((one) => one.id).sort((a, b) => a - b);
  if (!state.calls.has(id)) state.calls = new Map();
  for (const one of ids) if (!state.calls.has(one)) state.calls.set(one, new Map());
  for (const one of ids) await api.eventsOf(one, apply);
  touch("calls");
  touch("streams");
}

const Said = memo(({ seg, who, side, chosen, onChoose }) => {
  const gap = seg.kind === "gap";
  const label = gap ? "gap" : known(seg.correction?.label ?? seg.label);
  const text = gap ? `No verdict: ${seg.reason}` : seg.transcript?.text || "no words";
  const without = gap ? [] : seg.missing.filter((one) => !one.reason.startsWith("not asked"));
  const notes = gap ? [] : [
    seg.correction && `corrected from ${known(seg.label)}`, seg.was.length && `was ${seg.was.join(", ")}`,
    without.length && `without ${without.map((one) => one.voter).join(", ")}`, seg.label === UNKNOWN && seg.reason,
  ].filter(Boolean);
  return html`<li class=${`said side-${side} e-${label}${seg.final ? "" : " partial"}`}>
    <button aria-pressed=${chosen} onClick=${() => onChoose(seg)}>
      <span class="said-head"><time>${clock(seg.start_s)}</time><span class="who">${who}</span>
        ${gap ? html`<span class="quiet">gap</span>` : html`<${Mark} label=${label} partial=${!seg.final} />`}</span>
      <span class=${`said-text${seg.transcript?.text ? "" : " quiet"}`} lang=${seg.transcript?.language || undefined}>${text}</span>
      ${notes.length > 0 && html`<small>${notes.join("; ")}</small>`}</button></li>`;
});

/** Return a party's share of each label, of its speech. */
function moods(segments) {
  const sums = {};
  for (const seg of segments) {
    if (!seg.final || seg.kind !== "verdict") continue;
    const label = known(seg.correction?.label ?? seg.label);
    sums[label] = (sums[label] ?? 0) + seg.end_s - seg.start_s;
  }
  const total = Object.values(sums).reduce((a, b) => a + b, 0);
  return [...LABELS, UNKNOWN].filter((label) => sums[label]).map((label) => (
    { label, share: sums[label] / total, text: `${label} ${share(sums[label] / total)}` }));
}

function mean(segments, value) {
  const values = segments.filter((seg) => seg.final && seg.kind === "verdict").map(value).filter((one) => one !== undefined && one !== null);
  return values.length ? values.reduce((a, b) => a + b, 0) / values.length : null;
}

function Party({ row, segments, stats }) {
  return html`<section class=${`party card need-${step(row)} e-${row.label || "unknown"}`} aria-label=${row.party || row.call}>
    <div class="party-head"><h2>${row.party || row.call}</h2>${row.judged && row.label && html`<${Mark} label=${row.label} />`}${row.judged && html`<${Level} step=${step(row)} />`}
      <span class="quiet right">${row.ended ? "ended" : row.speaking ? "speaking" : "listening"}</span></div>
    ${row.judged ? html`<${Shares} parts=${moods(segments)} name="Share of speech by label" />`
      : html`<p class="quiet">Not judged${row.heard ? ", only transcribed" : " and not transcribed"} (compliance).</p>`}
    <dl class="facts"><div><dt>Talks</dt><dd>${share(stats.share)}</dd></div><div><dt>Turns</dt><dd>${stats.turns}</dd></div>
      <div><dt>Interrupts</dt><dd>${stats.interruptions}</dd></div><div><dt>Agreement</dt><dd>${share(mean(segments, (seg) => (seg.votes.length ? seg.agreement : null)))}</dd></div>
      <div><dt>Latency</dt><dd>${ms(mean(segments, (seg) => seg.latency_ms?.total))}</dd></div></dl></section>`;
}

function Transcript({ segments, sides, names, chosen, onChoose }) {
  const box = useRef(null);
  const [all, setAll] = useState(false);
  const [follow, setFollow] = useState(true);
  const shown = all ? segments : segments.slice(-SHOWN);
  useEffect(() => { if (follow && box.current) box.current.scrollTop = box.current.scrollHeight; }, [shown.length, follow]);
  useEffect(() => {
    const button = chosen && box.current?.querySelector("[aria-pressed=true]");
    if (!button) return;
    setFollow(false);
    const [line, list] = [button.getBoundingClientRect(), box.current.getBoundingClientRect()];
    if (line.top < list.top || line.bottom > list.bottom) box.current.scrollTop += line.top - list.top - list.height / 3;
  }, [chosen]);
  const scrolled = () => {
    const el = box.current;
    setFollow(el.scrollHeight - el.scrollTop - el.clientHeight < 60);
  };
  return html`<section class="transcript card" aria-labelledby="said-title"><div class="section-head"><h2 id="said-title">Transcript</h2>
      ${shown.length < segments.length && html`<button onClick=${() => setAll(true)}>Show ${segments.length - shown.length} earlier</button>`}
      ${!follow && html`<button onClick=${() => setFollow(true)}>Newest</button>`}</div>
    <ol ref=${box} onScroll=${scrolled} tabindex="0" aria-label="Segments in order of time">${shown.map((seg) => html`
      <${Said} key=${`${seg.stream_id}.${seg.segment}`} seg=${seg} side=${sides[seg.stream_id]} who=${names[seg.stream_id]}
        chosen=${chosen === `${seg.stream_id}.${seg.segment}`} onChoose=${onChoose} />`)}</ol></section>`;
}

/** Return what the page shows of the segments of a call. */
function summary(ids) {
  const lanes = ids.map((id) => {
    const row = state.streams.get(id);
    const segments = [...(state.calls.get(id)?.values() ?? [])].sort((a, b) => a.segment - b.segment);
    return { id, name: row?.party || row?.call || "", segments };
  });
  const segments = lanes.flatMap((lane) => lane.segments).sort((a, b) => a.start_s - b.start_s || a.stream_id - b.stream_id);
  const duration = segments.reduce((most, seg) => Math.max(most, seg.end_s), 0);
  return { lanes, segments, duration, stats: talk(ids, segments) };
}

export function Call({ id, segment }) {
  const { link } = useStore("calls", "streams", "link");
  const opened = useRef(id);
  const here = state.calls.has(id);
  if (!here) opened.current = id;
  // again after each new connection: events may have come between this load and the connection
  const { error } = useLoaded(() => load(id), `${opened.current} ${link.state}`);
  useEffect(() => () => { state.calls = new Map(); }, []);
  const ids = here ? [...state.calls.keys()] : [];
  const found = useMemo(() => summary(ids), [here, version("calls")]);
  if (error && !here) return html`<div class="page"><h1>Call</h1><${Problem} error=${error} /></div>`;
  const rows = ids.map((one) => state.streams.get(one)).filter(Boolean);
  if (!rows.length) return html`<div class="page"><h1>Call</h1><${Empty}>Loading.<//></div>`;
  const chosen = segment === undefined ? null : state.calls.get(id)?.get(segment);
  const { segments, lanes, stats, duration } = found;
  const names = Object.fromEntries(rows.map((row) => [row.id, row.party || row.call]));
  const sides = Object.fromEntries(rows.map((row, i) => [row.id, Math.min(i, 1)]));
  const choose = (seg) => go(`call/${seg.stream_id}/${seg.segment}`);
  const facts = rows[0];
  return html`<div class=${`page call${chosen ? " with-detail" : ""}`}>
    <div class="head"><h1>${facts.call}</h1><p class="counts">${clock(duration)}${rows.every((row) => row.ended) ? ", ended" : ", live"}
      ${rows.length > 1 && html`, overlap ${clock(stats.overlap_s)}, silence ${clock(stats.silence_s)}, dead air ${stats.dead_air}`}</p>
      <div class="tools">${rows.map((row) => html`<a key=${row.id} class="button" href=${api.exportOf(row.id, "vtt")} download>VTT ${row.party || row.name}</a>`)}</div></div>
    ${rows.some((row) => row.notice || row.consent) && html`<p class="notice">${facts.notice}${rows.filter((row) => row.consent).map((row) => html` <span key=${row.id} class="quiet">Consent of ${names[row.id]}: ${row.consent}.</span>`)}</p>`}
    <div class="parties">${rows.map((row, i) => html`<${Party} key=${row.id} row=${row} segments=${lanes[i]?.segments ?? []} stats=${stats.parties[row.id]} />`)}</div>
    <section class="card lane-card" aria-label="Time line"><${Timeline} lanes=${lanes} duration=${duration} chosen=${chosen} onChoose=${choose} /></section>
    <div class="below"><${Transcript} segments=${segments} sides=${sides} names=${names} chosen=${chosen && `${id}.${segment}`} onChoose=${choose} />
      <${Detail} seg=${chosen} who=${names[id]} judged=${state.streams.get(id)?.judged ?? true} onClose=${() => go(`call/${id}`)} /></div></div>`;
}
