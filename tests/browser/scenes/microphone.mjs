// The browser's microphone (Chromium's test signal) becomes a stream of the monitor.
export default async ({ open, must }) => {
  const page = await open("microphone");
  await page.click("text=Start the microphone");
  await page.waitForFunction(() => parseFloat(document.querySelector(".microphone .facts div:nth-child(2) dd").textContent) > 2, null, { timeout: 20000 });
  const stream = await page.waitForFunction(() => [...window.abhinaya.state.streams.values()].find((row) => row.name.includes("microphone-") && !row.ended)?.name, null, { timeout: 20000 });
  const sent = await page.locator(".microphone .facts div:nth-child(2) dd").innerText();
  const lost = await page.locator(".microphone .facts div:nth-child(3) dd").innerText();
  must(lost === "0.0 s", `${lost} of the microphone were lost`);
  await page.click("text=Stop");
  await page.waitForFunction(() => [...window.abhinaya.state.streams.values()].some((row) => row.name.includes("microphone-") && row.ended), null, { timeout: 20000 });

  // a recording goes the same way
  await page.setInputFiles("input[type=file]", new URL("../../../bench/demo/call.opus", import.meta.url).pathname);
  await page.selectOption("select[name=channels]", "split");
  await page.click("text=Label it");
  await page.waitForSelector("text=Open it", { timeout: 30000 });
  await page.click("text=Open it");
  await page.waitForFunction(() => document.querySelectorAll(".party").length === 2, null, { timeout: 20000 });
  return { stream: await stream.jsonValue(), sent };
};
