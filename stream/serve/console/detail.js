// One segment in full: the decision, every vote, who is missing, the latency, and its correction.
import { html, useEffect, useRef, useState } from "./ui.js";
import { api } from "./api.js";
import { clock, known, ms, share } from "./format.js";
import { Bar, Mark, Problem, When } from "./parts.js";
import { LABELS, LETTERS } from "./palette.js";

const STAGES = ["capture", "segment", "queue", "asr", "voters", "vote", "emit"];
const ATTRIBUTES = { arousal: ["calm", "active"], valence: ["negative", "positive"], dominance: ["weak", "strong"] };

/** The eight probabilities of a vote as upright bars with letters. */
function Bars({ probabilities, chosen }) {
  const text = LABELS.map((label) => `${label} ${share(probabilities[label] ?? 0)}`).join(", ");
  return html`<div class="bars" role="img" aria-label=${text}>${LABELS.map((label) => html`
    <span key=${label} class=${`e-${label}${label === chosen ? " chosen" : ""}`} title=${`${label} ${share(probabilities[label] ?? 0)}`}>
      <i style=${{ height: `${Math.max(2, (probabilities[label] ?? 0) * 52)}px` }} /><b>${LETTERS[label]}</b></span>`)}</div>`;
}

function Attributes({ values }) {
  return html`<dl class="attributes">${Object.entries(ATTRIBUTES).filter(([key]) => key in values).map(([key, [low, high]]) => html`
    <div key=${key}><dt>${key}</dt><dd><${Bar} value=${(values[key] - 1) / 6} /> <b>${values[key].toFixed(1)}</b>
      <span class="quiet">1 ${low}, 7 ${high}</span></dd></div>`)}</dl>`;
}

function Vote({ vote, decided }) {
  const other = vote.label && vote.label !== decided;
  return html`<li class="vote"><div class="vote-head"><b>${vote.voter}</b>
      ${vote.label ? html`<${Mark} label=${vote.label} />` : html`<span class="quiet">no label</span>`}
      ${vote.probabilities && vote.label && share(vote.probabilities[vote.label])}
      ${other && html`<span class="quiet">disagrees</span>`}
      <span class="quiet right">${ms(vote.run_ms)}</span></div>
    ${vote.probabilities && html`<${Bars} probabilities=${vote.probabilities} chosen=${vote.label} />`}
    ${vote.attributes && html`<${Attributes} values=${vote.attributes} />`}
    <p class="quiet small">${vote.model} ${vote.version}, queue ${ms(vote.queue_ms)}, batch of ${vote.batch_size}</p></li>`;
}

function Latency({ values }) {
  const stages = STAGES.filter((stage) => values[stage] > 0);
  const text = stages.map((stage) => `${stage} ${ms(values[stage])}`).join(", ");
  return html`<h3>Latency <span class="quiet">${ms(values.total)} after the end of speech</span></h3>
    <div class="stages" role="img" aria-label=${text}>${stages.map((stage) => html`
      <i key=${stage} class=${`stage-${stage}`} style=${{ flexGrow: values[stage] }} title=${`${stage} ${ms(values[stage])}`} />`)}</div>
    <ul class="key">${stages.map((stage) => html`<li key=${stage}><i class=${`stage-${stage}`} />${stage} ${ms(values[stage])}</li>`)}</ul>`;
}

function Correction({ seg }) {
  const [problem, setProblem] = useState(null);
  const [note, setNote] = useState("");
  useEffect(() => { setProblem(null); setNote(""); }, [seg.stream_id, seg.segment]);
  // the correction comes back as an event, to this page as to all others
  const send = (label) => api.correct(seg.stream_id, seg.segment, label, note).then(() => setProblem(null), setProblem);
  const now = seg.correction?.label;
  return html`<section class="correct" aria-labelledby="correct-title"><h3 id="correct-title">What was it?</h3>
    <p class="quiet small">A correction is kept with your name for training. The verdict stays as it was.</p>
    <div class="choices">${LABELS.map((label) => html`
      <button key=${label} class=${`e-${label}`} aria-pressed=${now === label} onClick=${() => send(label)}><${Mark} label=${label} /></button>`)}</div>
    <label class="field">Note <input maxlength="200" value=${note} onInput=${(event) => setNote(event.target.value)} placeholder="optional, before the label" /></label>
    <p role="status" class="small">${now && html`Corrected from ${known(seg.correction.judged ?? seg.label)} to ${now} by ${seg.correction.by}${seg.correction.at ? html`, <${When} at=${seg.correction.at} />` : ""}.`}</p>
    <${Problem} error=${problem} /></section>`;
}

export function Detail({ seg, who, judged, onClose }) {
  const place = useRef(null);
  useEffect(() => {
    // on a narrow screen the segment is above the transcript
    if (innerWidth <= 900) place.current?.scrollIntoView({ block: "start" });
  }, [seg?.stream_id, seg?.segment]);
  if (!seg) return html`<aside class="detail card" aria-label="Segment"><p class="quiet">Choose a segment to see its votes.</p></aside>`;
  if (seg.kind === "gap") return html`<aside class="detail card" aria-label="Segment"><h2>No verdict</h2>
    <p>${clock(seg.start_s)} to ${clock(seg.end_s)}: ${seg.reason}</p></aside>`;
  const shown = seg.correction?.label ?? seg.label;
  return html`<aside class="detail card" aria-label="Segment" ref=${place}>
    <button class="close" onClick=${onClose} aria-label="Close the segment">×</button>
    <h2><${Mark} label=${seg.label} partial=${!seg.final} />${shown !== seg.label && html` <span class="quiet">corrected to</span> <${Mark} label=${shown} />`}</h2>
    <p class="quiet">${who}, ${clock(seg.start_s)} to ${clock(seg.end_s)}${seg.final ? "" : ", provisional"}${seg.was.length ? `, was ${seg.was.join(", ")}` : ""}</p>
    ${seg.transcript?.text && html`<blockquote lang=${seg.transcript.language || undefined}>${seg.transcript.text}</blockquote>`}
    ${seg.transcript?.translation && html`<blockquote lang="en">${seg.transcript.translation}</blockquote>`}
    ${seg.reason && html`<p class="problem">${seg.reason}${seg.leading && seg.leading !== seg.label ? `; the votes lead to ${seg.leading}` : ""}</p>`}
    ${judged && html`<dl class="facts"><div><dt>Confidence</dt><dd>${share(seg.confidence)}</dd></div><div><dt>Agreement</dt><dd>${share(seg.agreement)}</dd></div>
      <div><dt>Margin</dt><dd>${share(seg.margin)}</dd></div></dl>`}
    ${seg.attributes && html`<${Attributes} values=${seg.attributes} />`}
    ${judged && html`<h3>Votes</h3><ul class="votes">${seg.votes.map((vote) => html`<${Vote} key=${vote.voter} vote=${vote} decided=${seg.leading ?? seg.label} />`)}
      ${seg.refinement && html`<${Vote} vote=${{ ...seg.refinement, voter: `${seg.refinement.voter} (refiner)` }} decided=${seg.label} />`}</ul>`}
    ${seg.missing.length > 0 && html`<h3>Missing</h3><ul class="missing">${seg.missing.map((one) => html`<li key=${one.voter}><b>${one.voter}</b> ${one.reason}</li>`)}</ul>`}
    ${seg.latency_ms && html`<${Latency} values=${seg.latency_ms} />`}
    ${judged && seg.final && html`<${Correction} seg=${seg} />`}</aside>`;
}
