// The rules that fired, and who has seen to them.
import { html, useState } from "./ui.js";
import { api } from "./api.js";
import { clock, plural, share } from "./format.js";
import { Empty, Mark, Problem, When } from "./parts.js";
import { useStore } from "./store.js";

function Alert({ alert, stream, onDone, onProblem }) {
  const take = () => api.acknowledge(alert.number).then(onDone, onProblem);
  const where = `#/call/${alert.stream_id}/${alert.segment}`;
  return html`<li class=${`alert card e-${alert.label}${alert.by ? " done" : ""}`}>
    <div class="alert-head"><b class="alert-rule">${alert.rule}</b><${Mark} label=${alert.label} />
      <a href=${where}>${alert.stream ?? stream?.name}</a><span class="quiet right"><${When} at=${alert.wall_time} /></span></div>
    <p class="alert-text">${alert.text || html`<span class="quiet">no words</span>`}</p>
    <div class="alert-foot"><span class="quiet">${plural(alert.segments, "segment")} from ${clock(alert.start_s)} to ${clock(alert.end_s)}, confidence ${share(alert.confidence)}</span>
      ${alert.by ? html`<span class="right">acknowledged by <b>${alert.by}</b>${alert.at && html` <${When} at=${alert.at} />`}</span>`
        : html`<button class="right" onClick=${take} aria-label=${`Acknowledge ${alert.rule}, ${alert.stream ?? ""}`}>Acknowledge</button>`}</div></li>`;
}

export function Alerts() {
  const state = useStore("alerts");
  const [all, setAll] = useState(false);
  const [problem, setProblem] = useState(null);
  const every = [...state.alerts.values()].sort((a, b) => b.number - a.number);
  const shown = all ? every : every.filter((alert) => !alert.by);
  return html`<div class="page alerts"><div class="head"><h1>Alerts</h1>
      <p class="counts"><b>${every.filter((alert) => !alert.by).length}</b> open, ${every.length} in all</p>
      <div class="tools"><label class="check"><input type="checkbox" checked=${all} onChange=${(event) => setAll(event.target.checked)} /> Show acknowledged</label></div></div>
    <${Problem} error=${problem} />
    ${shown.length ? html`<ul class="stack">${shown.slice(0, 300).map((alert) => html`
      <${Alert} key=${alert.number} alert=${alert} stream=${state.streams.get(alert.stream_id)} onDone=${() => setProblem(null)} onProblem=${setProblem} />`)}</ul>`
      : html`<${Empty}>${every.length ? "Every alert is acknowledged." : "No rule has fired. abhinaya serve --rules FILE names the rules."}<//>`}</div>`;
}
