// Runs one scene in Chromium: node run.mjs SCENE ADDRESS [TOKEN]. Prints what it measured as JSON.
// playwright-core and axe-core are found in the folder ABHINAYA_BROWSER (`make browser` fills build/browser).
import { createRequire } from "node:module";

const [, , name, address, token] = process.argv;
const require = createRequire(`${process.env.ABHINAYA_BROWSER}/`);
const { chromium } = require("playwright-core");
const scene = await import(`./scenes/${name}.mjs`);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", ...(scene.flags ?? [])],
});
const faults = [];

const ANSWERS = ["/readyz", "/v1/session"]; // the browser complains of 503 and 401, which are answers here

/** Open a page, logged in unless it is `anonymous`; what the browser complains of is a fault. */
async function open(path = "wall", { anonymous, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => { if (message.type() === "error" && !ANSWERS.some((end) => message.location().url.endsWith(end))) faults.push(message.text()); });
  if (token && !anonymous) await context.request.post(`${address}/v1/session`, { data: { token } });
  await page.goto(`${address}/#/${path}`);
  return page;
}

/** Fail with a message unless something is so. */
export function must(so, message) {
  if (!so) throw new Error(message);
}

let failed = false;
try {
  const found = await scene.default({ open, must, address, token, require, browser });
  must(!faults.length || scene.faultsExpected, `the browser complains: ${faults.join("; ")}`);
  console.log(JSON.stringify(found ?? {}));
} catch (error) {
  console.error(`${name}: ${error.stack}`);
  failed = true;
}
await browser.close();
process.exit(failed ? 1 : 0);
