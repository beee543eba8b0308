import { defineConfig } from "vite";

export default defineConfig({
  build: {
    // The page's policy allows scripts and styles from this server alone: nothing inline, no data: addresses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    emptyOutDir: true,
    target: "es2022",
  },
});
