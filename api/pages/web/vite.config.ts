import { defineConfig } from "vite";

// Relative addresses: the service writes its own prefix into index.html, and scripts find their parts beside them.
export default defineConfig({
  base: "./",
  build: {
    outDir: "dist",
    assetsInlineLimit: 0, // the page's policy allows no script and no style from within
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 2000,
    target: "es2022",
  },
});
