import { chromium } from "playwright-core";
const [,, url, out, width = "1400", height = "900", scheme = "light", ...acts] = process.argv;
const b = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--headless","--no-sandbox","--disable-gpu","--use-angle=swiftshader","--enable-unsafe-swiftshader","--disable-quic","--no-first-run","--disable-background-networking","--disable-component-update","--disable-sync"] });
const p = await b.newPage({ viewport: { width: +width, height: +height }, colorScheme: scheme });
p.on("console", m => console.log("console", m.type(), m.text()));
p.on("pageerror", e => console.log("pageerror", e.message));
p.on("requestfailed", r => console.log("failed", r.url(), r.failure()?.errorText));
p.on("response", r => { if (r.status() >= 400) console.log(r.status(), r.url()); });
const t0 = Date.now();
await p.goto(url); 
await p.waitForTimeout(+(process.env.WAIT ?? 6000));
for (const a of acts) { console.log(a); await eval(`(async()=>{${a}})()`); await p.waitForTimeout(1500); }
await p.screenshot({ path: out });
await b.close();
