// 500 rows, 1,000 events a second: how long are the frames, and is anything dropped?
const SECONDS = 10;

export default async ({ open }) => {
  const page = await open("wall");
  await page.waitForSelector(".row .mark");
  await page.waitForTimeout(3000); // the first code runs before it is compiled
  const found = await page.evaluate((seconds) => new Promise((done) => {
    const frames = [];
    const tasks = [];
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => tasks.push(entry.duration))).observe({ type: "longtask" });
    const began = performance.now();
    const first = window.abhinaya.state.link.number;
    let last = began;
    const frame = (now) => {
      frames.push(now - last);
      last = now;
      if (now - began < seconds * 1000) requestAnimationFrame(frame);
      else done({ frames: frames.slice(1), tasks, events: window.abhinaya.state.link.number - first, seconds: (now - began) / 1000 });
    };
    requestAnimationFrame(frame);
  }), SECONDS);
  const state = await page.evaluate(() => ({
    rows: window.abhinaya.state.streams.size, dropped: window.abhinaya.state.link.dropped, drawn: document.querySelectorAll(".rows .row").length,
  }));
  const sorted = found.frames.sort((a, b) => a - b);
  return {
    ...state, events_per_s: Math.round(found.events / found.seconds), frames: sorted.length, longest_ms: sorted.at(-1),
    p99_ms: sorted[Math.floor(sorted.length * 0.99)], over_50_ms: sorted.filter((ms) => ms > 50).length, long_tasks: found.tasks.length,
  };
};
