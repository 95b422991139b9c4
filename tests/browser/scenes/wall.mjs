// The demo call on the wall: both parties, their label and words; filter, keyboard, wallboard, theme.
export default async ({ open, must, token }) => {
  const page = await open("wall", { anonymous: true });
  await page.fill("#token", "wrong");
  await page.keyboard.press("Enter");
  await page.waitForSelector("[role=alert]:has-text('token is unknown')");
  await page.fill("#token", token);
  await page.keyboard.press("Enter");
  await page.waitForSelector(".rows .row .mark", { timeout: 40000 });
  const text = (name) => page.locator(name).allInnerTexts();
  await page.waitForFunction(() => document.querySelectorAll(".rows .row").length === 2);
  const names = await text(".c-name a");
  must(names.sort().join() === "agent,customer", `parties are ${names}`);
  await page.waitForFunction(() => [...document.querySelectorAll(".c-words")].some((cell) => /[a-z]{3}/.test(cell.textContent)));

  await page.keyboard.press("/");
  await page.keyboard.type("customer");
  await page.waitForFunction(() => document.querySelectorAll(".rows .row").length === 1);
  await page.fill("#filter", "");
  await page.keyboard.press("Escape");
  const theme = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const before = await theme();
  await page.keyboard.press("d");
  must(await theme() !== before, "d does not change the theme");

  await page.keyboard.press("b");
  await page.waitForSelector(".board .tile .mark");
  const px = await page.evaluate(() => parseFloat(getComputedStyle(document.querySelector(".tile .mark")).fontSize));
  must(px >= 30, `the label of a tile has ${px} px`);
  await page.keyboard.press("Escape");

  await page.click("text=Play the demo call");
  await page.waitForFunction(() => document.querySelectorAll(".rows .row").length === 4, null, { timeout: 20000 });

  await page.focus(".list");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".call .parties");

  // the token is nowhere a script or a log could see it
  const seen = await page.evaluate(() => document.cookie + location.href + JSON.stringify({ ...localStorage }) + document.documentElement.outerHTML);
  must(!seen.includes(token), "the page holds the token");
  return { parties: names };
};
