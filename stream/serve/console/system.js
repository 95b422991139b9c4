// What runs, what waits, what was lost, and what the monitor does not hear.
import { html } from "./ui.js";
import { api } from "./api.js";
import { number, plural, span } from "./format.js";
import { Chart, Empty, Mark, When, useLoaded, useNow } from "./parts.js";
import { useStore } from "./store.js";

function Fact({ name, value, bad }) {
  return html`<div class=${bad ? "bad" : ""}><dt>${name}</dt><dd>${bad && html`<span class="flag" aria-hidden="true">!</span> `}${value}</dd></div>`;
}

/** When a node was last right about the test recording (the canary). */
const checked = (load) => (load?.checked_s === undefined ? "–" : `right ${span(load.checked_s)} ago`);

function Nodes({ nodes, held }) {
  if (!nodes.length) return html`<${Empty}>No node has said that it is ready.<//>`;
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Table of nodes"><table><thead><tr>${["Node", "Service", "State", "Holds", "Done", "Test recording", "Model", "Licence"].map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
    <tbody>${nodes.map((node) => html`<tr key=${`${node.node} ${node.service}`}><th scope="row">${node.node}</th><td>${node.service}</td>
      <td>${node.up ? "ready" : html`<b class="flag">down</b> ${node.reason}`}</td><td>${held(node)?.held ?? "–"}</td><td>${number(held(node)?.done)}</td><td>${checked(held(node))}</td>
      <td>${node.model} <span class="quiet">${node.version}</span></td><td>${node.licence}${node.noncommercial ? html` <b class="flag">non-commercial</b>` : ""}</td></tr>`)}</tbody></table></div>`;
}

/** The cells of the map, and what the hub of each says. */
function Cells({ said, round }) {
  const { value: cells, error } = useLoaded(api.cells, round);
  if (!cells) return html`<${Empty}>${error ? error.message : "The map of the cells is on its way."}<//>`;
  const rows = cells.filter(({ state }) => state !== "gone").map(({ name, state }) => {
    const status = said.get(name);
    const oldest = Math.max(0, ...Object.values(status?.oldest_s ?? {}));
    return html`<tr key=${name}><th scope="row">${name}</th><td>${state}${status?.answers || state !== "open" ? "" : html` <b class="flag">does not answer</b>`}</td>
      <td>${number(status?.waiting)}</td><td>${status?.answers ? span(oldest) : "–"}</td><td>${number(status?.open_segments)}</td>
      <td>${status?.answers ? new Set(status.nodes.map(({ node }) => node)).size : "–"}</td></tr>`;
  });
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Table of cells"><table><thead><tr>${["Cell", "State", "Waiting tasks", "Oldest", "Open segments", "Nodes"].map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
    <tbody>${rows}</tbody></table></div>`;
}

/** What is left out: [what, why]. */
function unheard(state) {
  const found = [];
  for (const [voter, streams] of Object.entries(state.status?.left_out ?? {})) found.push([`${voter}`, `left out for ${plural(streams, "live stream")}: the nodes do not keep up`]);
  for (const [reason, times] of state.gaps) found.push([plural(times, "gap"), reason]);
  for (const node of state.nodes.values()) if (!node.up) found.push([node.service, `${node.node} is down: ${node.reason}`]);
  for (const row of state.streams.values()) {
    if (!row.judged) found.push([row.name, row.heard ? "not judged, only transcribed (compliance)" : "neither judged nor transcribed (compliance)"]);
    if (row.ended && row.reason) found.push([row.name, row.reason]);
  }
  return found.slice(0, 200);
}

export function System() {
  const state = useStore("system", "link");
  const now = useNow(5);
  const { value: lacks } = useLoaded(api.missing, Math.floor(now / 10000));
  const { status, link } = state;
  const services = new Map((status?.nodes ?? []).map((node) => [`${node.node} ${node.service}`, node]));
  const depths = state.depths.length ? [0, 1, 2].map((i) => state.depths.map((point) => point[i])) : null;
  const refused = Object.entries(status?.refused ?? {});
  const oldest = Object.entries(status?.oldest_s ?? {}).sort((a, b) => b[1] - a[1]);
  const missing = unheard(state);
  return html`<div class="page system"><div class="head"><h1>System</h1></div>
    <section class="card" aria-labelledby="health-title"><h2 id="health-title">Health</h2><dl class="facts">
      <${Fact} name="Ready to judge speech" value=${lacks ? (lacks.length ? "no" : "yes") : "asking"} bad=${lacks?.length > 0} />
      <${Fact} name="Waiting tasks" value=${status ? number(status.waiting) : "–"} /><${Fact} name="Open segments" value=${status ? number(status.open_segments) : "–"} />
      <${Fact} name="Input processes" value=${status ? status.fronts.length : "–"} /></dl>
      ${lacks?.length > 0 && html`<ul class="plain">${lacks.map((text) => html`<li key=${text}>${text}</li>`)}</ul>`}</section>
    ${state.cells.size > 0 && html`<section class="card" aria-labelledby="cells-title"><h2 id="cells-title">Cells</h2>
      <${Cells} said=${state.cells} round=${Math.floor(now / 10000)} /></section>`}
    <section class="card" aria-labelledby="nodes-title"><h2 id="nodes-title">Nodes and licences</h2>
      <${Nodes} nodes=${[...state.nodes.values()]} held=${(node) => services.get(`${node.node} ${node.service}`)} /></section>
    <div class="columns"><section class="card" aria-labelledby="queue-title"><h2 id="queue-title">Queues</h2>
        ${depths ? html`<${Chart} data=${depths} y=${{ range: (_, low, high) => [0, Math.max(5, high)] }} series=${[{ label: "angry" }, { label: "sad", dash: [4, 3] }]} name="Waiting tasks and open segments over the last minutes" />
          <ul class="key"><li><i class="key-line e-angry" />waiting tasks</li><li><i class="key-line dashed e-sad" />open segments</li></ul>` : html`<${Empty}>No status yet.<//>`}
        ${oldest.length > 0 && html`<ul class="plain">${oldest.map(([service, seconds]) => html`<li key=${service}><b>${service}</b> oldest segment waits ${span(seconds)}</li>`)}</ul>`}</section>
      <section class="card" aria-labelledby="drops-title"><h2 id="drops-title">Drops</h2><dl class="facts">
        <${Fact} name="Events this page dropped" value=${number(link.dropped)} bad=${link.dropped > 0} /><${Fact} name="Duplicates" value=${number(status?.doubles)} />
        ${refused.map(([reason, times]) => html`<${Fact} key=${reason} name=${`Refused: ${reason}`} value=${number(times)} bad />`)}</dl></section></div>
    <div class="columns"><section class="card" aria-labelledby="unheard-title"><h2 id="unheard-title">Left out</h2>
        ${missing.length ? html`<ul class="plain">${missing.map(([what, why], i) => html`<li key=${i}><b>${what}</b> ${why}</li>`)}</ul>` : html`<${Empty}>Nothing is left out.<//>`}</section>
      <section class="card" aria-labelledby="remarks-title"><h2 id="remarks-title">Warnings</h2>
        ${state.remarks.length ? html`<ul class="plain">${state.remarks.map((one, i) => html`<li key=${i}><${When} at=${one.at} /> ${one.text}</li>`)}</ul>` : html`<${Empty}>None.<//>`}</section></div></div>`;
}
