// The page System of a gateway of several cells: each with its state and queue; one that is silent is marked.
export default async ({ open, must }) => {
  const page = await open("system");
  const row = (name) => page.locator(`tr:has(th:text-is("${name}"))`);
  await row("east").locator("td:has-text('7')").waitFor();
  const shown = async (name) => (await row(name).innerText()).replace(/\s+/g, " ");
  must(await shown("east") === "east open 7 12 s 4 2", await shown("east"));
  must(await shown("west") === "west open does not answer 0 – 0 –", await shown("west"));
  must(await row("gone").count() === 0, "a cell that is gone is not shown");
};
