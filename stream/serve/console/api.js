// Every request of the console to the gateway. The session cookie goes along by itself.
const json = { "Content-Type": "application/json" };

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;

export class ApiError extends Error {
  constructor(status, { message, remedy } = {}) {
    super(sentence(message || `The server answered with status ${status}.`));
    Object.assign(this, { status, remedy: remedy && sentence(remedy) });
  }
}

const isJson = (answer) => answer.headers.get("content-type")?.startsWith("application/json");

async function fetched(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new ApiError(0, { message: "The server does not answer.", remedy: "Check that abhinaya serve runs." });
  }
  if (!answer.ok) throw new ApiError(answer.status, isJson(answer) ? (await answer.json()).error : undefined);
  return answer;
}

async function ask(path, options) {
  const answer = await fetched(path, options);
  return isJson(answer) ? answer.json() : null;
}

const post = (path, body) => ask(path, { method: "POST", headers: json, body: JSON.stringify(body) });

function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(given).toString();
  return text && `?${text}`;
}

const socket = (path) => new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`);

export const api = {
  session: () => ask("/v1/session"),
  login: (token) => post("/v1/session", { token }),
  logout: () => ask("/v1/session", { method: "DELETE" }),
  streams: async () => (await ask("/v1/streams")).streams,
  nodes: async () => (await ask("/v1/nodes")).nodes,
  /** Return the cells of the map. */
  cells: async () => (await ask("/v1/cells")).cells,
  stream: (id) => ask(`/v1/history/streams/${id}`),
  streamsOfCall: async (call) => (await ask(`/v1/history/streams${query({ call })}`)).streams,
  /** Apply every stored event of a stream. */
  async eventsOf(id, apply) {
    for (let from = 0, more = true; more;) {
      const { events, next } = await ask(`/v1/streams/${id}/events${query({ from, limit: 1000 })}`);
      events.forEach(apply);
      more = events.length > 0;
      from = next;
    }
  },
  events: (from) => socket(`/v1/events${query({ from })}`),
  /** Return the latest streams with their totals. */
  latestStreams: async () => (await ask(`/v1/history/streams${query({ limit: 60 })}`)).streams,
  alerts: async () => (await ask("/v1/alerts")).alerts,
  acknowledge: (number) => post(`/v1/alerts/${number}/acknowledge`, {}),
  correct: (stream, segment, label, note) => post(`/v1/streams/${stream}/segments/${segment}/correction`, { label, note }),
  search: (filters) => ask(`/v1/history${query(filters)}`),
  weeks: () => ask("/v1/history/weeks"),
  exportAs: (filters, format) => `/v1/history/export${query({ ...filters, format })}`,
  exportOf: (stream, format) => `/v1/history/export${query({ stream, format })}`,
  corrections: "/v1/history/corrections",
  /** Download a file. An error is thrown, not saved as a file. */
  async save(path) {
    const answer = await fetched(path);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = answer.headers.get("content-disposition")?.match(/filename="(.*)"/)?.[1] ?? "";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  },
  demo: () => post("/v1/files", { demo: true }),
  upload: (form) => ask("/v1/files", { method: "POST", body: form }),
  cancel: (id) => ask(`/v1/files/${encodeURIComponent(id)}`, { method: "DELETE" }),
  job: (id) => ask(`/v1/files/${encodeURIComponent(id)}`),
  /** Return what is missing before speech can be judged. A gateway that is not ready answers with 503. */
  async missing() {
    const answer = await fetch("/readyz").catch(() => null);
    const body = await answer?.json().catch(() => null);
    return body?.status === "ok" ? [] : body?.missing ?? ["the server does not say"];
  },
  listen: (name) => socket(`/v1/listen${query({ encoding: "linear16", sample_rate: 16000, channels: 1, interim_results: true, name })}`),
};
