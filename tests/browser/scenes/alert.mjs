// An alert of the demo call appears, is acknowledged, and every other page sees by whom.
export default async ({ open, must }) => {
  const page = await open("wall");
  const other = await open("alerts");
  await page.waitForSelector("nav .flag", { timeout: 90000 });
  await page.keyboard.press("a");
  await page.waitForSelector(".alert:not(.done)");
  const rule = await page.innerText(".alert-rule");
  await other.check("text=Show acknowledged");
  await other.waitForSelector(".alert:not(.done)");
  const before = await page.locator(".alert").count();
  await page.click('button:text-is("Acknowledge")');
  await page.waitForFunction((n) => document.querySelectorAll(".alert").length < n, before);
  await other.waitForSelector(".alert.done");
  must((await other.innerText(".alert.done .alert-foot")).includes("acknowledged by owner"), "nobody is named");
  await page.reload();
  await page.check("text=Show acknowledged");
  await page.waitForSelector(".alert.done");
  return { rule, alerts: before };
};
