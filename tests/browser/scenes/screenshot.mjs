// The picture of the README: the demo call, two thirds through.
import { statSync } from "node:fs";

export default async ({ open, must }) => {
  const file = process.argv[5];
  const page = await open("wall", { viewport: { width: 1280, height: 860 } });
  await page.click(".rows .row .c-name a", { timeout: 60000 });
  const surprise = ".said.e-surprise:not(.partial) button";
  await page.waitForSelector(surprise, { timeout: 90000 });
  await page.waitForFunction(() => document.querySelectorAll(".said:not(.partial)").length >= 11 && document.querySelector(".said.partial"), null, { timeout: 90000 });
  await page.locator(surprise).last().click();
  await page.mouse.move(640, 5);
  await page.waitForTimeout(400);
  await page.screenshot({ path: file });
  const { size } = statSync(file);
  must(size < 200000, `${file} has ${size} bytes`);
  return { file, size };
};
