// A person says what a segment was: this page, another page and a later one show it.
export default async ({ open, must }) => {
  const page = await open("wall");
  await page.waitForSelector(".rows .row .mark", { timeout: 60000 });
  await page.click(".rows .row .c-name a");
  await page.waitForSelector(".said:not(.partial) button", { timeout: 60000 });
  await page.click(".said:not(.partial) button");
  await page.waitForSelector(".choices button");
  const judged = (await page.innerText(".detail h2 .mark")).split("\n").at(-1).trim();
  const label = judged === "sad" ? "fear" : "sad";
  const other = await open(new URL(page.url()).hash.slice(2));
  await other.waitForSelector(".choices button");
  await page.keyboard.press("c");
  await page.fill(".correct input", "heard twice");
  await page.click(`.choices button:has-text("${label}")`);
  for (const one of [page, other]) {
    await one.waitForSelector(`.choices button[aria-pressed=true]:has-text("${label}")`);
    const said = await one.innerText(".correct [role=status]");
    must(said.includes(`to ${label} by owner`), `the page says ${said}`);
  }
  await page.reload();
  await page.waitForSelector(`.choices button[aria-pressed=true]:has-text("${label}")`);
  return { judged, label };
};
