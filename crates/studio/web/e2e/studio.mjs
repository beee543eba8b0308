// Starts the studio and a browser, both with folders of their own, and ends both.
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import axe from "axe-core";
import { chromium } from "playwright-core";

const here = path.dirname(fileURLToPath(import.meta.url));
export const root = path.resolve(here, "../../../..");
export const program = process.env.ONSA ?? path.join(root, "target/release/onsa");
export const assets = process.env.ONSA_ASSETS ?? path.join(os.homedir(), ".cache/onsa/assets");
const shots = path.join(root, "docs/screenshots");

export const fresh = (name) => fs.mkdtempSync(path.join(os.tmpdir(), `onsa-${name}-`));

export async function startStudio(dir, ...more) {
  const child = spawn(program, ["studio", "port=0", `dir=${dir}`, "--json", ...more], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  const address = await new Promise((done, fail) => {
    child.stdout.on("data", (bytes) => {
      text += bytes;
      try {
        done(JSON.parse(text).address);
      } catch {
        // Half a document: the rest comes.
      }
    });
    child.on("exit", (code) => fail(new Error(`the studio ended with ${code}`)));
  });
  const origin = new URL(address).origin;
  const token = new URL(address).searchParams.get("token");
  const ended = new Promise((done) => child.on("exit", done));
  return {
    address,
    origin,
    child,
    ask: async (method, at, body) => {
      const response = await fetch(origin + at, {
        method,
        headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      if (!response.ok) throw new Error(`${method} ${at}: ${response.status} ${await response.text()}`);
      return response.json();
    },
    stop: async () => {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

export async function startBrowser(options = {}) {
  const profile = fresh("browser");
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
    viewport: { width: 1280, height: 800 },
    locale: "en-US",
    acceptDownloads: true,
    ...options,
  });
  context.setDefaultTimeout(60_000);
  const page = context.pages()[0] ?? (await context.newPage());
  const complaints = [];
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  const foreign = [];
  page.on("request", (request) => {
    const { protocol, hostname } = new URL(request.url());
    if (protocol.startsWith("http") && hostname !== "127.0.0.1") foreign.push(request.url());
  });
  return {
    page,
    context,
    complaints,
    foreign,
    close: async () => {
      await context.close();
      fs.rmSync(profile, { recursive: true, force: true });
    },
  };
}

/** A picture of the page for the documentation; only where it is asked for, so that a test run changes no file. */
export async function picture(page, name) {
  if (!process.env.ONSA_SCREENSHOTS) return;
  fs.mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: path.join(shots, `${name}.jpg`), type: "jpeg", quality: 72 });
}

/** What axe-core holds against the page: nothing serious may be left. */
export async function barriers(page) {
  await page.evaluate(axe.source);
  const result = await page.evaluate(() => globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
  return result.violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 160)).join(" | ")}`);
}

export const wide = (page) => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
