// Every page, light and dark, wide and narrow: axe-core finds nothing serious.
const PAGES = ["wall", "wall/board", "alerts", "history", "system", "microphone"];

export default async ({ open, must, require }) => {
  const source = require("axe-core").source;
  const found = [];
  let checked = 0;
  for (const colorScheme of ["light", "dark"]) for (const viewport of [{ width: 1280, height: 800 }, { width: 390, height: 844 }]) {
    // axe is put into the page by us, not by the page: its policy is in the way
    const page = await open("wall", { colorScheme, viewport, bypassCSP: true });
    await page.waitForSelector(".rows .row");
    await page.evaluate(source);
    const login = await open("wall", { colorScheme, viewport, bypassCSP: true, anonymous: true });
    await login.waitForSelector("#token");
    await login.evaluate(source);
    must(!(await login.evaluate(() => window.axe.run(document))).violations.some(({ impact }) => ["serious", "critical"].includes(impact)), "the login");
    const call = await page.getAttribute(".rows .row a", "href");
    for (const path of [...PAGES, call.slice(2), "call"]) {
      if (path === "call") {
        await page.click(".said:first-child button");
        await page.waitForSelector(".choices");
      } else {
        await page.evaluate((to) => { location.hash = `#/${to}`; }, path);
      }
      await page.waitForTimeout(700);
      const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      checked += 1;
      for (const { id, impact, nodes } of violations) {
        if (impact === "serious" || impact === "critical") found.push(`${path} ${colorScheme} ${viewport.width}: ${id} ${nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary}`).join(" | ")}`);
      }
    }
    await page.keyboard.press("?");
    await page.waitForSelector("dialog[open]");
    await page.context().close();
  }
  must(!found.length, `axe-core:\n${found.join("\n")}`);
  return { checked };
};
