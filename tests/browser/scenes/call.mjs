// The demo call live: provisional words become final, the parties stand side by side; votes; a lost
// connection is said and made up for.
export default async ({ open, must }) => {
  const page = await open("wall");
  await page.waitForSelector(".rows .row .c-name a", { timeout: 40000 });
  await page.click(".rows .row .c-name a");
  await page.waitForSelector(".said.partial", { timeout: 30000 });
  await page.waitForFunction(() => document.querySelectorAll(".said:not(.partial)").length >= 3, null, { timeout: 40000 });
  const sides = await page.evaluate(() => [...document.querySelectorAll(".party")].map((one) => one.getBoundingClientRect()).map(({ left, top }) => [left, top]));
  must(sides.length === 2 && sides[0][1] === sides[1][1] && sides[0][0] < sides[1][0], `parties at ${JSON.stringify(sides)}`);
  must(await page.locator(".plot rect").count() >= 3, "the time line is empty");

  await page.click(".said:not(.partial) button");
  await page.waitForSelector(".votes .vote");
  const bars = await page.locator(".vote").first().locator(".bars").getAttribute("aria-label");
  must(/angry \d+ %, contempt \d+ %/.test(bars), `bars say ${bars}`);
  must(await page.locator(".stages").count() === 1, "no latency by stage");
  const votes = await page.locator(".vote").count();

  // without a network for a while: said, then everything is there
  const count = () => page.evaluate(() => [...window.abhinaya.state.calls.values()].reduce((n, one) => n + [...one.values()].filter((seg) => seg.final).length, 0));
  const before = await count();
  await page.context().setOffline(true);
  await page.evaluate(() => window.abhinaya.live.socket.close());
  await page.waitForSelector(".link-lost");
  await page.waitForTimeout(9000);
  await page.context().setOffline(false);
  await page.waitForSelector(".link-live", { timeout: 20000 });
  await page.waitForFunction((n) => [...window.abhinaya.state.calls.values()].reduce((m, one) => m + [...one.values()].filter((seg) => seg.final).length, 0) > n, before, { timeout: 20000 });
  const gaps = await page.evaluate(() => [...window.abhinaya.state.calls.values()].some((one) => {
    const numbers = [...one.values()].filter((seg) => seg.final).map((seg) => seg.segment).sort((a, b) => a - b);
    return numbers.some((n, i) => n !== i);
  }));
  must(!gaps, "segments are missing after the connection came back");
  // the server dropped events for this page: said, and asked for again
  await page.evaluate(() => {
    window.abhinaya.old = window.abhinaya.live.socket;
    window.abhinaya.live.take('{"type":"dropped","events":7}');
  });
  await page.waitForSelector(".link:has-text('7 events were dropped')");
  await page.waitForFunction(() => window.abhinaya.live.socket?.readyState === WebSocket.OPEN && window.abhinaya.live.socket !== window.abhinaya.old, null, { timeout: 15000 });
  return { votes, before, after: await count() };
};

export const faultsExpected = true; // requests without a network
