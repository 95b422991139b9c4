// The connection for events: batches them by frame, says what is missing, and catches up by number.
import { apply } from "./events.js";
import { flush, setLink, state } from "./store.js";

const FRAME_MS = 8; // of work with events in one frame
const MOST_WAITING = 20000; // events; more than that a page cannot make up for
const CATCH_UP_MS = 5000; // at least, between two requests for what was dropped
const PATIENCE_MS = [500, 1000, 2000, 4000, 8000];

export class Live {
  /** `open(from)` returns a WebSocket; `refresh()` loads the snapshots; `refused()` asks for a token. */
  constructor({ open, refresh, refused }) {
    Object.assign(this, { open, refresh, refused, waiting: [], at: 0, tries: 0, scheduled: 0, caughtUpAt: 0 });
    document.addEventListener("visibilitychange", () => { this.scheduled = 0; this.schedule(); });
  }

  async connect() {
    clearTimeout(this.timer);
    try {
      await this.refresh();
    } catch (error) {
      if (error.status === 401 || error.status === 403) this.refused();
      else this.lost(error.message);
      return;
    }
    const from = state.link.number; // of the snapshots at first: nothing between them and the events is missed
    const socket = this.open(from);
    this.socket = socket;
    socket.onopen = () => {
      const again = state.link.state === "lost";
      this.tries = 0;
      setLink({ state: "live", since: Date.now(), text: again ? `Connected again at event ${from}.` : "" });
    };
    socket.onmessage = (message) => { if (this.socket === socket) this.take(message.data); };
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      if (event.code === 4401 || event.code === 4403) this.refused();
      else this.lost(event.reason);
    };
  }

  stop() {
    clearTimeout(this.timer);
    const { socket } = this;
    this.socket = null;
    socket?.close();
  }

  lost(reason) {
    const wait = PATIENCE_MS[Math.min(this.tries, PATIENCE_MS.length - 1)];
    this.tries += 1;
    const since = state.link.state === "lost" ? state.link.since : Date.now();
    setLink({ state: "lost", since, text: reason || "The server does not answer." });
    this.timer = setTimeout(() => this.connect(), wait * (0.75 + Math.random() / 2));
  }

  take(text) {
    this.waiting.push(text);
    this.schedule();
  }

  schedule() {
    if (this.scheduled || this.at >= this.waiting.length) return;
    const work = () => { this.scheduled = 0; this.drain(); };
    // a hidden page has no frames
    this.scheduled = document.hidden ? setTimeout(work, 250) : requestAnimationFrame(work);
  }

  /** Apply the waiting events, for at most FRAME_MS of this frame. */
  drain() {
    const until = performance.now() + FRAME_MS;
    const { waiting } = this;
    if (waiting.length - this.at > MOST_WAITING) {
      const dropped = waiting.length - this.at - MOST_WAITING / 2;
      this.at += dropped;
      this.miss(dropped);
    }
    while (this.at < waiting.length && performance.now() < until) {
      for (let n = 0; n < 8 && this.at < waiting.length; n += 1) this.one(waiting[this.at++]);
    }
    if (this.at >= waiting.length) {
      this.waiting = [];
      this.at = 0;
    }
    flush();
    this.schedule();
  }

  one(text) {
    const event = JSON.parse(text);
    if (event.type === "dropped") this.miss(event.events);
    else apply(event);
    if (event.number > state.link.number) state.link.number = event.number;
  }

  /** Say that events were dropped, and ask again from the last number before them. */
  miss(events) {
    setLink({ dropped: state.link.dropped + events, text: `${events} events were dropped.` });
    if (this.again) return;
    const from = state.link.number;
    this.again = setTimeout(() => {
      this.again = 0;
      this.caughtUpAt = Date.now();
      state.link.number = from;
      this.socket?.close();
      this.socket = null;
      this.waiting = [];
      this.at = 0;
      setLink({ text: `Catching up from event ${from}.` });
      this.connect();
    }, Math.max(0, this.caughtUpAt + CATCH_UP_MS - Date.now()));
  }
}
