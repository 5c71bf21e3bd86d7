// What a person does in the browser, step by step, in Debian's Chromium. One JSON line a step; `test_browser.py` reads them.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const asked = JSON.parse(process.argv[2]);
const require = createRequire(`${asked.modules}/`);
const { chromium } = require("playwright-core");
const axe = require.resolve("axe-core/axe.min.js");

const ARGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
];
const context = await chromium.launchPersistentContext(asked.profile, {
  executablePath: asked.chromium, args: ARGS, viewport: { width: 1280, height: 800 }, colorScheme: "light", acceptDownloads: true,
});
const eye = await context.newPage(); // decodes screenshots: the pages' own policy is none of its business
const trouble = [];

function watch(page) {
  page.setDefaultTimeout(asked.patience);
  page.on("pageerror", (e) => trouble.push(`error: ${e.message}`));
  page.on("console", (m) => { if (/Content Security Policy/i.test(m.text())) trouble.push(m.text()); });
  return page;
}

async function step(name, work) {
  if (asked.only && !asked.only.includes(name)) return;
  const began = Date.now();
  try {
    const told = (await work()) ?? {};
    console.log(JSON.stringify({ name, ok: true, seconds: (Date.now() - began) / 1000, ...told }));
  } catch (error) {
    console.log(JSON.stringify({ name, ok: false, seconds: (Date.now() - began) / 1000, why: String(error).slice(0, 1500) }));
  }
}

const must = (holds, what) => { if (!holds) throw new Error(what); };
const idle = (page) => page.waitForSelector(".gl[data-state=idle]");

/** Counts of colours in a part of the screen: {"r,g,b": pixels}. */
async function colours(page, clip) {
  const png = (await page.screenshot({ clip })).toString("base64");
  return eye.evaluate(async (data) => {
    const picture = await createImageBitmap(await (await fetch(`data:image/png;base64,${data}`)).blob());
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    const brush = canvas.getContext("2d");
    brush.drawImage(picture, 0, 0);
    const bytes = brush.getImageData(0, 0, picture.width, picture.height).data;
    const found = {};
    for (let i = 0; i < bytes.length; i += 4) {
      const key = `${bytes[i]},${bytes[i + 1]},${bytes[i + 2]}`;
      found[key] = (found[key] ?? 0) + 1;
    }
    return found;
  }, png);
}

const share = (found, colour) => (found[colour] ?? 0) / Object.values(found).reduce((a, b) => a + b, 0);
const GROUND = "233,236,234";

async function sound(page) {
  await page.evaluate(readFileSync(axe, "utf-8")); // a script tag would meet the page's policy
  const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }));
  const bad = violations.filter((v) => v.impact === "serious" || v.impact === "critical");
  must(!bad.length, bad.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(" ")}`).join("\n"));
}

async function drop(page, name, bytes) {
  const transfer = await page.evaluateHandle(([n, data]) => {
    const made = new DataTransfer();
    made.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], n, { type: "image/tiff" }));
    return made;
  }, [name, bytes.toString("base64")]);
  for (const event of ["dragenter", "dragover", "drop"]) await page.dispatchEvent("body", event, { dataTransfer: transfer });
}

const home = `${asked.url}/?f=html`;
const page = watch(await context.newPage());

await step("first page", async () => {
  await page.goto(home);
  await page.getByRole("heading", { name: "Bring a scene" }).waitFor();
  await sound(page);
  await page.emulateMedia({ colorScheme: "dark" });
  await sound(page);
  await page.emulateMedia({ colorScheme: "light" });
});

await step("a file that is no scene is refused in words", async () => {
  await drop(page, "notes.tif", Buffer.from("nothing of a TIFF in here"));
  const toast = page.locator(".toast.error");
  await toast.waitFor();
  const text = await toast.innerText();
  must(/not a usable GeoTIFF/.test(text), text);
  await toast.getByRole("button", { name: "Dismiss" }).click();
});

await step("upload by drag and drop, then follow", async () => {
  await drop(page, "field.tif", readFileSync(asked.scene));
  const card = page.getByRole("article", { name: "field.tif" }).first();
  await card.getByText("Fits the model").waitFor();
  await card.getByRole("button", { name: "Make a map" }).click();
  await page.locator(".job").first().waitFor();
  await page.getByText("The map is ready").waitFor({ timeout: asked.patience * 3 });
  return { maps: await page.locator(".card.link").count() };
});

await step("look at a map", async () => {
  const began = Date.now();
  await page.goto(`${home}#map=${asked.map}`);
  await page.reload();
  await page.getByRole("heading", { name: "Legend" }).waitFor();
  await idle(page);
  const seconds = (Date.now() - began) / 1000;
  const found = await colours(page, { x: 600, y: 200, width: 400, height: 300 });
  must(share(found, GROUND) < 0.2, `the map does not show: ${share(found, GROUND)}`);
  await sound(page);
  return { firstMap: seconds };
});

await step("zoom without a blank frame", async () => {
  const part = { x: 780, y: 340, width: 100, height: 100 };
  await page.mouse.move(830, 390);
  let worst = 0;
  for (let i = 0; i < 5; i++) {
    await page.mouse.wheel(0, i < 3 ? -240 : 240);
    for (let k = 0; k < 2; k++) worst = Math.max(worst, share(await colours(page, part), GROUND));
  }
  must(worst < 0.5, `a frame was ${Math.round(worst * 100)} % blank`);
  return { worst };
});

await step("legend switch", async () => {
  await page.goto(`${home}#map=${asked.map}&layers=classes&opacity=classes:1`);
  await page.reload();
  await page.getByRole("heading", { name: "Legend" }).waitFor();
  await idle(page);
  const part = { x: 600, y: 200, width: 400, height: 300 };
  const before = await colours(page, part);
  const [kind] = asked.legend;
  must((before[kind.rgb] ?? 0) > 500, `${kind.name} is not to be seen`);
  await page.getByRole("checkbox", { name: `Show ${kind.name}` }).uncheck();
  await page.waitForTimeout(300);
  await idle(page);
  const after = await colours(page, part);
  must((after[kind.rgb] ?? 0) === 0, `${kind.name} is still there`);
  must(page.url().includes("hide="), "the link does not say so");
  await page.getByRole("checkbox", { name: `Show ${kind.name}` }).check();
});

await step("click tells class, confidence and area", async () => {
  const [answer] = await Promise.all([page.waitForResponse((r) => r.url().includes("/point?")), page.mouse.click(800, 400)]);
  const told = await answer.json();
  const card = page.locator(".spot");
  await card.waitFor();
  const text = await card.innerText();
  must(text.includes(told.class_name.replaceAll("_", " ")) && /%/.test(text) && /m²/.test(text), text);
  await card.getByRole("button").click();
});

await step("swipe by keys and by hand", async () => {
  await page.getByRole("button", { name: "Swipe" }).click();
  const handle = page.getByRole("slider", { name: /Swipe/ });
  await handle.waitFor();
  await page.waitForTimeout(1500);
  await page.waitForSelector(".second canvas");
  const at = Number(await handle.getAttribute("aria-valuenow"));
  await handle.focus();
  for (let i = 0; i < 5; i++) await page.keyboard.press("ArrowRight");
  must(Number(await handle.getAttribute("aria-valuenow")) === at + 10, "arrow keys do not move it");
  const box = await handle.boundingBox();
  await page.mouse.move(box.x + 20, 400);
  await page.mouse.down();
  await page.mouse.move(900, 400, { steps: 4 });
  await page.mouse.up();
  let left = {};
  for (let i = 0; i < 20; i++) {
    left = await colours(page, { x: 780, y: 300, width: 90, height: 90 });
    if (Object.keys(left).length > 3 && !asked.legend.some((k) => left[k.rgb] > 200)) break;
    await page.waitForTimeout(300);
  }
  const right = await colours(page, { x: 930, y: 300, width: 60, height: 90 });
  must(!asked.legend.some((k) => left[k.rgb] > 200), "the left shows classes");
  must(asked.legend.some((k) => right[k.rgb] > 200), "the right shows no classes");
  await page.getByRole("button", { name: "Swipe" }).click();
});

await step("box statistics", async () => {
  await page.getByRole("button", { name: "Box" }).click();
  await page.waitForTimeout(800);
  await page.mouse.click(700, 300);
  await page.mouse.move(800, 380, { steps: 3 });
  const [answer] = await Promise.all([page.waitForResponse((r) => r.url().endsWith("/statistics")), page.mouse.click(850, 450)]);
  await page.locator(".answer").waitFor();
  await sound(page);
  return { body: answer.request().postDataJSON(), told: await answer.json(), shown: await page.locator(".bars").innerText() };
});

await step("a link can be shared", async () => {
  await page.goto(`${home}#map=${asked.map}&layers=confidence&opacity=confidence:0.5`);
  await page.reload();
  await page.getByRole("checkbox", { name: "Confidence", exact: true }).waitFor();
  must(await page.getByRole("checkbox", { name: "Confidence", exact: true }).isChecked(), "the layer is off");
  must(!(await page.getByRole("checkbox", { name: "Classes", exact: true }).isChecked()), "the other layer is on");
});

await step("by keyboard alone", async () => {
  await page.goto(home);
  await page.reload();
  await page.getByRole("heading", { name: "Maps" }).waitFor();
  const names = [];
  for (let i = 0; i < 25; i++) {
    await page.keyboard.press("Tab");
    names.push(await page.evaluate(() => document.activeElement?.textContent?.trim().slice(0, 40) ?? ""));
    const seen = await page.evaluate(() => { const s = getComputedStyle(document.activeElement.closest(".drop") ?? document.activeElement); return s.outlineStyle !== "none" || s.boxShadow !== "none"; });
    must(seen, `no focus is seen at ${names.at(-1)}`);
    if (names.at(-1)?.endsWith(".tif")) { await page.keyboard.press("Enter"); break; }
  }
  await page.getByRole("heading", { name: "Legend" }).waitFor();
});

await step("phone with touch", async () => {
  const phone = await (await chromium.launch({ executablePath: asked.chromium, args: ARGS })).newContext({
    viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true,
  });
  const small = watch(await phone.newPage());
  await small.goto(`${home}#map=${asked.map}`);
  await small.getByRole("heading", { name: "Legend" }).waitFor();
  await idle(small);
  await small.touchscreen.tap(195, 200);
  await small.locator(".spot").waitFor();
  const wide = await small.evaluate(() => document.documentElement.scrollWidth);
  must(wide <= 390, `the page is ${wide} wide`);
  await small.getByRole("button", { name: "Close the panel" }).tap();
  await sound(small);
  await phone.browser().close();
});

await step("log in with a key", async () => {
  const other = await (await chromium.launch({ executablePath: asked.chromium, args: ARGS })).newContext();
  const locked = watch(await other.newPage());
  await locked.goto(`${asked.lockedUrl}/?f=html`);
  await locked.getByLabel("API key").fill("gun_000000000000_wrong");
  await locked.getByRole("button", { name: "Log in" }).click();
  await locked.getByRole("alert").waitFor();
  await sound(locked);
  await locked.getByLabel("API key").fill(asked.key);
  await locked.getByRole("button", { name: "Log in" }).click();
  await locked.getByRole("heading", { name: "Maps" }).waitFor();
  await locked.locator("summary[aria-label='Who am I']").click();
  const card = await locked.locator(".account .card").innerText();
  must(card.includes("tester") && card.includes("look"), card);
  must((await locked.evaluate(() => localStorage.length)) === 0, "something is kept beyond the session");
  await locked.getByRole("button", { name: "Log out" }).click();
  await locked.getByLabel("API key").waitFor();
  await other.browser().close();
});

await step("nothing broke on the way", async () => must(!trouble.length, trouble.join("\n")));
await context.close();
