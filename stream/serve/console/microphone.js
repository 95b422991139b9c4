// Speak into the browser: its microphone is one more stream of the monitor.
import { html, useEffect, useState } from "./ui.js";
import { api } from "./api.js";
import { Bar, Empty, Level, Mark, Problem } from "./parts.js";
import { step } from "./attention.js";
import { Upload } from "./upload.js";
import { useStore } from "./store.js";

const RATE = 16000;
const MOST_UNSENT = 5 * RATE * 2; // bytes; after that the connection is too slow for live speech

/** The microphone outlives the page that started it: one may look at the wall meanwhile. */
const microphone = { on: false, peak: 0, name: "", sent: 0, lost: 0, error: null, views: new Set() };
const renew = (change) => { Object.assign(microphone, change); microphone.views.forEach((view) => view()); };

async function start() {
  renew({ error: null, sent: 0, lost: 0, name: `microphone-${Date.now().toString(36)}` });
  try {
    const media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
    const audio = new AudioContext({ sampleRate: RATE });
    await audio.audioWorklet.addModule("/console/microphone-worklet.js");
    const node = new AudioWorkletNode(audio, "blocks", { numberOfOutputs: 0, channelCount: 1 });
    const socket = api.listen(microphone.name);
    microphone.stop = () => {
      media.getTracks().forEach((track) => track.stop());
      audio.close();
      if (socket.readyState === WebSocket.OPEN) {
        socket.send(JSON.stringify({ type: "CloseStream" }));
        setTimeout(() => socket.close(), 3000);
      }
      renew({ on: false, peak: 0 });
    };
    node.port.onmessage = ({ data }) => {
      if (socket.readyState !== WebSocket.OPEN) return;
      if (socket.bufferedAmount > MOST_UNSENT) renew({ lost: microphone.lost + 0.1, peak: data.peak });
      else {
        socket.send(data.block);
        renew({ sent: microphone.sent + 0.1, peak: data.peak });
      }
    };
    socket.onclose = (event) => {
      if (!microphone.on) return;
      microphone.stop();
      renew({ error: { message: event.reason || "The server closed the connection.", remedy: "Start again." } });
    };
    socket.onopen = () => audio.createMediaStreamSource(media).connect(node);
    renew({ on: true });
  } catch (error) {
    const remedy = error.name === "NotAllowedError" ? "Allow the microphone in the browser; it needs https or localhost." : "Check that a microphone is connected.";
    renew({ on: false, error: { message: `The microphone did not start: ${error.message}.`, remedy } });
  }
}

export function Microphone() {
  const state = useStore("streams");
  const [, again] = useState(0);
  useEffect(() => {
    const view = () => again((n) => n + 1);
    microphone.views.add(view);
    return () => microphone.views.delete(view);
  }, []);
  const row = microphone.name && [...state.streams.values()].find((one) => one.name.includes(microphone.name));
  return html`<div class="page microphone"><div class="head"><h1>Add audio</h1></div>
    <section class="card" aria-labelledby="microphone-title"><h2 id="microphone-title">Microphone</h2><p>What you say goes to this server only. No audio is kept unless the server is set to keep it.</p>
      <button class="primary" aria-pressed=${microphone.on} onClick=${() => (microphone.on ? microphone.stop() : start())}>${microphone.on ? "Stop" : "Start the microphone"}</button>
      <p class="quiet" role="status">${microphone.on ? "Listening." : "Off."}</p>
      <dl class="facts"><div><dt>Level</dt><dd><${Bar} value=${microphone.peak} /></dd></div><div><dt>Sent</dt><dd>${microphone.sent.toFixed(1)} s</dd></div>
        <div><dt>Lost</dt><dd>${microphone.lost.toFixed(1)} s</dd></div></dl>
      <${Problem} error=${microphone.error} /></section>
    ${row ? html`<section class="card heard"><h2><a href=${`#/call/${row.id}`}>${row.name}</a></h2>
        <p class="heard-label">${row.label ? html`<${Mark} label=${row.label} /> <${Level} step=${step(row)} />` : html`<span class="quiet">no segment yet</span>`}</p>
        <p class=${`said-text${row.partial ? " partial" : ""}`}>${row.partial?.words || row.words}</p></section>`
      : microphone.on && html`<${Empty}>Say something.<//>`}
    <${Upload} /></div>`;
}
