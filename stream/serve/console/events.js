// What an event changes in the store. An event may come twice, and an old one after a newer one.
import { after } from "./attention.js";
import { split } from "./format.js";
import { state, touch } from "./store.js";

const KEPT_ENDED = 200;
const KEPT_REMARKS = 50;
const KEPT_REASONS = 30;
const KEPT_DEPTHS = 600;
const KEPT_ALERTS = 2000;

/** Return a new row of the wall. */
export function newRow(id, name) {
  const [call, party] = split(name);
  return {
    id, name, call, party, label: "", confidence: null, words: "", since: Date.now(), level: 0,
    speaking: false, partial: null, openAlerts: 0, ended: false, reason: "", live: true, judged: true, heard: true,
    segment: -1, revision: -1, number: 0, notice: "", consent: "", source: "",
  };
}

/** Put the streams of the API into the store, but for those of which newer events have come. */
export function putStreams(streams) {
  const ids = new Set(streams.map((stream) => stream.id));
  for (const id of state.streams.keys()) if (!ids.has(id) && !state.calls.has(id)) state.streams.delete(id);
  let newest = 0;
  for (const stream of streams) {
    const old = state.streams.get(stream.id);
    if (!old || old.number < (stream.number ?? 0)) put({ ...newRow(stream.id, stream.name), ...old, ...stream });
    newest = Math.max(newest, stream.number ?? 0);
  }
  // the first events to ask for are those after the snapshot; later, those after the last one that came
  state.link.number ||= newest;
  touch("streams");
}

function row(event) {
  return state.streams.get(event.stream_id) ?? newRow(event.stream_id, event.stream ?? "");
}

function put(changed) {
  state.streams.set(changed.id, changed);
  touch("streams");
}

function verdict(event) {
  const old = row(event);
  const words = event.transcript?.translation || event.transcript?.text || "";
  if (!event.final) {
    if (event.segment > old.segment) {
      put({ ...old, partial: { label: event.label, words }, words: words || old.words });
    }
  } else if (event.segment > old.segment || (event.segment === old.segment && event.revision > old.revision)) {
    put({
      ...old,
      label: event.label,
      confidence: event.confidence,
      attributes: event.attributes ?? null,
      words: words || old.words,
      since: event.label === old.label ? old.since : Date.now(),
      level: event.segment > old.segment ? after(old.level, event.label, event.confidence) : old.level,
      segment: event.segment,
      revision: event.revision,
      partial: null,
      number: Math.max(old.number, event.number ?? 0),
    });
  }
  segment(event, "verdict");
}

function segment(event, kind) {
  const kept = state.calls.get(event.stream_id);
  if (!kept) return;
  const old = kept.get(event.segment);
  const final = kind === "gap" || event.final;
  if (old && (old.final ? !final || event.revision <= old.revision : !final && event.part <= old.part)) return;
  const was = old?.final ? [...old.was, old.label] : [];
  kept.set(event.segment, { ...event, kind, final, was, correction: old?.correction ?? null });
  touch("calls");
}

/** Note a correction of a segment of the open call. */
function correction(event) {
  const kept = state.calls.get(event.stream_id);
  const old = kept?.get(event.segment);
  if (!old) return;
  kept.set(event.segment, { ...old, correction: event });
  touch("calls");
}

/** Put an alert of the API or of an event into the store. */
export function putAlert(alert) {
  const old = state.alerts.get(alert.number);
  const changed = { by: "", at: "", ...alert, ...(old?.by ? { by: old.by, at: old.at } : {}) };
  state.alerts.set(alert.number, changed);
  if (state.alerts.size > KEPT_ALERTS) state.alerts.delete(state.alerts.keys().next().value);
  const stream = state.streams.get(alert.stream_id);
  const more = Number(!changed.by) - Number(old ? !old.by : 0);
  if (stream && more) put({ ...stream, openAlerts: Math.max(0, stream.openAlerts + more) });
  touch("alerts");
}

const HANDLERS = {
  verdict,
  gap(event) {
    const reason = state.gaps.has(event.reason) || state.gaps.size < KEPT_REASONS ? event.reason : "other reasons";
    state.gaps.set(reason, (state.gaps.get(reason) ?? 0) + 1);
    touch("system");
    segment(event, "gap");
  },
  alert: putAlert,
  alert_acknowledged(event) {
    const alert = state.alerts.get(event.alert);
    if (alert) putAlert({ ...alert, by: event.by, at: event.at });
  },
  correction,
  activity(event) { put({ ...row(event), speaking: event.speaking }); },
  stream_started(event) {
    put({
      ...row(event), live: event.live, source: event.source, judged: event.judged ?? true, heard: event.heard ?? true,
      notice: event.notice ?? "", consent: event.consent ?? "", ended: false,
    });
  },
  stream_ended(event) {
    put({ ...row(event), ended: true, speaking: false, partial: null, reason: event.reason || event.sound });
    const ended = [...state.streams.values()].filter((one) => one.ended);
    for (const one of ended.slice(0, -KEPT_ENDED)) if (!state.calls.has(one.id)) state.streams.delete(one.id);
  },
  node_up(event) {
    state.nodes.set(`${event.node} ${event.service}`, { ...event, up: true, reason: "" });
    touch("system");
  },
  node_down(event) {
    for (const service of event.service.split(",").map((name) => name.trim())) {
      const key = `${event.node} ${service}`;
      state.nodes.set(key, { ...state.nodes.get(key), node: event.node, service, up: false, reason: event.reason });
    }
    touch("system");
  },
  front_down(event) { remark(`${event.front}: ${event.reason}`); },
  remark(event) { remark(`${event.source}: ${event.text}`); },
  cell_status(event) {
    state.cells.set(event.cell, event);
    touch("system");
  },
  status(event) {
    state.status = event;
    state.depths.push([Date.now() / 1000, event.waiting, event.open_segments]);
    if (state.depths.length > KEPT_DEPTHS) state.depths.shift();
    touch("system");
  },
};

function remark(text) {
  state.remarks = [{ at: Date.now(), text }, ...state.remarks].slice(0, KEPT_REMARKS);
  touch("system");
}

/** Apply one event. Unknown types are ignored, as docs/events.md says. */
export function apply(event) {
  HANDLERS[event.type]?.(event);
}
