// The one store of the page. Events change it; views that use a changed part render again.
import { useEffect, useReducer } from "./ui.js";

/** What the page knows. A row, segment or alert is replaced when it changes, never changed in place. */
export const state = {
  streams: new Map(), // id -> row (rows.js)
  calls: new Map(), // id -> Map(segment -> segment), of the streams of the open call only
  alerts: new Map(), // number -> alert
  nodes: new Map(), // "node service" -> node
  status: null, // the latest status event
  cells: new Map(), // name -> the latest cell_status event; empty without cells
  depths: [], // [seconds, waiting, open segments], a few minutes of it
  remarks: [], // the latest warnings
  gaps: new Map(), // reason -> number of gaps since the page was opened
  link: { state: "connecting", number: 0, dropped: 0, caughtUp: 0, since: Date.now(), text: "" },
};

const versions = {};
const views = new Set();
let pending = new Set();

/** Note that a part of the store changed. Views hear of it at the next `flush`. */
export function touch(part) {
  versions[part] = (versions[part] ?? 0) + 1;
  pending.add(part);
}

/** Return a number that changes with a part. */
export const version = (part) => versions[part] ?? 0;

/** Render the views whose parts changed since the last flush. */
export function flush() {
  if (!pending.size) return;
  const changed = pending;
  pending = new Set();
  for (const view of [...views]) if (view.parts.some((part) => changed.has(part))) view.renew();
}

/** Use parts of the store in a view. */
export function useStore(...parts) {
  const [, renew] = useReducer((n) => n + 1, 0);
  useEffect(() => {
    const seen = parts.map((part) => versions[part]);
    const view = { parts, renew };
    views.add(view);
    if (parts.some((part, i) => versions[part] !== seen[i])) renew();
    return () => views.delete(view);
  }, []);
  return state;
}

/** Change the state of the connection. */
export function setLink(change) {
  state.link = { ...state.link, ...change };
  touch("link");
  flush();
}
