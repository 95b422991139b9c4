// A recording from this computer: it is labelled as fast as the models allow, and shows on the wall.
import { html, useEffect, useState } from "./ui.js";
import { api } from "./api.js";
import { Problem } from "./parts.js";

const POLL_MS = 1000;
const STATES = { waiting: "waits for its turn", running: "is being labelled", done: "is labelled", failed: "failed", cancelled: "was cancelled" };

const goesOn = (job) => job && (job.state === "waiting" || job.state === "running");

export function Upload() {
  const [job, setJob] = useState(null);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    if (!goesOn(job)) return undefined;
    const timer = setTimeout(() => api.job(job.id).then(setJob, setProblem), POLL_MS);
    return () => clearTimeout(timer);
  }, [job]);
  const send = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    if (form.get("channels") === "mix") form.delete("channel_names");
    setBusy(true);
    setProblem(null);
    api.upload(form).then(setJob, setProblem).finally(() => setBusy(false));
  };
  return html`<section class="card" aria-labelledby="upload-title"><h2 id="upload-title">A recording</h2>
    <form class="search" onSubmit=${send}>
      <label class="field wide">File <input type="file" name="file" required /></label>
      <label class="field">Channels <select name="channels"><option value="mix">one stream</option><option value="split">a stream each</option></select></label>
      <label class="field">Names of split channels <input name="channel_names" value="agent,customer" /></label>
      <button class="primary" disabled=${busy}>${busy ? "Sending" : "Label it"}</button></form>
    <p role="status">${job && html`${job.name} ${STATES[job.state]}${job.error ? `: ${job.error}` : ""}. ${job.streams.length > 0 && html`<a href=${`#/call/${job.streams[0]}`}>Open it</a>`}`}</p>
    ${goesOn(job) && html`<button onClick=${() => api.cancel(job.id).then(setJob, setProblem)}>Cancel</button>`}
    <${Problem} error=${problem} /></section>`;
}
