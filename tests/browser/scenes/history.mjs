// Search by words and label, this week against last, the three exports.
import { readFile } from "node:fs/promises";

export default async ({ open, must }) => {
  const page = await open("history");
  await page.fill("#filter", "tickets Lisbon");
  const search = page.locator("button:text-is('Search')");
  for (let tries = 0; tries < 60; tries += 1) { // the call may still be playing
    await search.click();
    await page.waitForTimeout(1000);
    if (await page.locator(".found li").count() === 1) break;
  }
  const words = await page.innerText(".found .said-text");
  must(/Lisbon/i.test(words), `found ${words}`);
  await page.click("text=Alerts");
  await page.click("text=History");
  await page.waitForSelector(".weeks tbody tr");
  await page.waitForSelector(".calls a");
  must(await page.locator(".calls li").count() === 1, "the two parties of the call are one row");
  await page.fill("#filter", "tickets Lisbon");
  await search.click();
  await page.waitForFunction(() => document.querySelectorAll(".found li").length === 1);
  const files = {};
  for (const [format, begins] of [["csv", "stream"], ["parquet", "PAR1"], ["vtt", "WEBVTT"]]) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(`.tools a:text-is("${format.toUpperCase()}")`)]);
    const text = await readFile(await download.path(), "latin1");
    must(text.startsWith(begins) || text.slice(0, 300).includes(begins), `${format} begins with ${text.slice(0, 40)}`);
    files[format] = text.length;
  }
  await page.click(".found a");
  await page.waitForSelector(".detail .votes");
  await page.goBack();
  await page.fill("#filter", "zebra");
  await search.click();
  await page.waitForSelector("text=Nothing matches");
  return { words, files };
};
