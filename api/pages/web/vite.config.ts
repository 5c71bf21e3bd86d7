import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

const SOURCES = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "src"];
const BUNDLED = ["maplibre-gl", "terra-draw", "terra-draw-maplibre-gl-adapter", "preact", "@preact/signals", "@preact/signals-core"];

function filesOf(path: string): string[] {
  if (path.includes(".")) return [path];
  const inside = readdirSync(path, { recursive: true, withFileTypes: true });
  return inside.filter((e) => e.isFile()).map((e) => join(e.parentPath, e.name));
}

/** What dist/ was made from, as one digest (a test compares it), and whose work is in it. */
function stamp(): Plugin {
  return {
    name: "stamp",
    writeBundle() {
      const digest = createHash("sha256");
      for (const path of SOURCES.flatMap(filesOf).sort()) {
        digest.update(`${path} ${createHash("sha256").update(readFileSync(path)).digest("hex")}\n`);
      }
      writeFileSync("dist/SOURCES.sha256", `${digest.digest("hex")}\n`);
      writeFileSync("dist/LICENCES.txt", BUNDLED.map(licence).join(`\n${"=".repeat(80)}\n\n`));
    },
  };
}

function licence(name: string): string {
  const folder = join("node_modules", name);
  const told = JSON.parse(readFileSync(join(folder, "package.json"), "utf-8"));
  const file = ["LICENSE", "LICENSE.txt", "LICENSE.md"].map((f) => join(folder, f)).find((f) => existsSync(f));
  return `${name} ${told.version}, ${told.license}\n\n${file ? readFileSync(file, "utf-8") : (told.homepage ?? told.repository?.url ?? told.repository ?? "")}`;
}

// Relative addresses: the service writes its own prefix into index.html, and scripts find their parts beside them.
export default defineConfig({
  base: "./",
  plugins: [stamp()],
  build: {
    outDir: "dist",
    assetsInlineLimit: 0, // the page's policy allows no script and no style from within
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 2000,
    target: "es2022",
  },
});
