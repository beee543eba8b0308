// From a zip of real pictures to a model that was tried: what a person does, in a browser, on real weights.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { zipSync } from "fflate";
import { assets, barriers, fresh, picture, program, startBrowser, startStudio, wide } from "./studio.mjs";

let studio, browser, page;
const dir = fresh("studio");
const files = fresh("files");
const zip = path.join(files, "trees.zip");

before(async () => {
  // The zip is packed with one folder around everything, as file managers do.
  const entries = {};
  const walk = (from, to) => {
    for (const entry of fs.readdirSync(from, { withFileTypes: true })) {
      if (entry.isDirectory()) walk(path.join(from, entry.name), `${to}/${entry.name}`);
      else entries[`${to}/${entry.name}`] = [new Uint8Array(fs.readFileSync(path.join(from, entry.name))), { level: 0 }];
    }
  };
  walk(path.join(assets, "trees"), "trees");
  fs.writeFileSync(zip, zipSync(entries));
  studio = await startStudio(dir, `roots=${assets}`);
  browser = await startBrowser();
  page = browser.page;
});

after(async () => {
  await browser?.close();
  await studio?.stop();
  fs.rmSync(dir, { recursive: true, force: true });
  fs.rmSync(files, { recursive: true, force: true });
});

const at = (place) => page.goto(studio.origin + place);
const badge = (name) => page.locator("h1 .badge", { hasText: name });

test("without the key there is only a closed door", async () => {
  const answer = await page.goto(studio.origin + "/data");
  assert.equal(answer.status(), 401);
  assert.match(await page.textContent("body"), /printed in the terminal/);
  browser.complaints.length = 0;
});

test("the printed address opens the studio and leaves the key behind", async () => {
  await page.goto(studio.address);
  await page.getByRole("heading", { name: "Teach a model" }).waitFor();
  assert.equal(page.url(), studio.origin + "/");
  const [cookie] = await browser.context.cookies();
  assert.equal(cookie.sameSite, "Strict");
  assert.equal(cookie.httpOnly, true);
  await picture(page, "start");
});

test("a dropped zip becomes a data set with a report, charts and a first version", async () => {
  await page.getByRole("link", { name: "Bring your own" }).click();
  await page.locator('input[type="file"]').setInputFiles(zip);
  await page.getByRole("heading", { name: "trees", exact: true }).waitFor();
  await page.getByText("44 images · 989 boxes · Tree").waitFor();
  await page.locator(".tile img").first().waitFor();
  await page.waitForFunction(() => [...document.querySelectorAll(".tile img")].every((img) => img.complete && img.naturalWidth > 0));
  await picture(page, "pictures");
  await page.getByLabel("Part").selectOption("val");
  await page.waitForURL(/split=val/);
  await page.getByRole("list", { name: "9 images" }).waitFor();
  await page.getByRole("tab", { name: "Report" }).click();
  await page.getByText("Everything is fine: 44 images, 989 boxes, no faults.").waitFor();
  await page.getByRole("tab", { name: "Charts" }).click();
  await page.getByRole("row", { name: /Tree/ }).getByText("989").waitFor();
  await page.getByRole("tab", { name: "Versions" }).click();
  await page.getByText("Version 1").waitFor();
  await picture(page, "versions");
  // The address of a page can be shared and reloaded.
  await page.reload();
  await page.getByText("Version 1").waitFor();
  const download = page.waitForEvent("download");
  await page.getByRole("link", { name: "YOLO" }).click();
  assert.match((await download).suggestedFilename(), /^trees-v1-yolo\.zip$/);
});

test("boxes are drawn, moved, undone and deleted, and each change is on the disk at once", async () => {
  const set = (await studio.ask("GET", "/api/datasets")).datasets[0];
  const image = (await studio.ask("GET", `/api/datasets/${set.id}/images?limit=3`)).images[2];
  const boxes = async () => (await studio.ask("GET", `/api/images/${image.id}`)).boxes;
  const saved = () => page.locator('[data-saved="true"]').waitFor();
  const count = image.boxes.length;
  await at(`/data/${set.id}/image/${image.id}`);
  await page.locator("svg .box").first().waitFor();
  // By keyboard alone.
  await page.keyboard.press("n");
  for (let i = 0; i < 5; i++) await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Alt+ArrowDown");
  const began = Date.now();
  await saved();
  assert.ok(Date.now() - began < 2000, "a change may not wait for two seconds");
  const drawn = (await boxes())[count];
  assert.ok(Math.abs(drawn[1] - (0.5 + 5 / image.width)) < 1e-4, `${drawn}`);
  assert.ok(Math.abs(drawn[4] - (0.2 + 1 / image.height)) < 1e-4, `${drawn}`);
  for (let i = 0; i < 7; i++) await page.keyboard.press("Control+z");
  await saved();
  assert.equal((await boxes()).length, count);
  await page.keyboard.press("Control+y");
  await page.keyboard.press("Delete");
  // By mouse: draw one, then pull its corner.
  const paper = await page.locator(".paper svg").boundingBox();
  const to = (x, y) => page.mouse.move(paper.x + x * paper.width, paper.y + y * paper.height);
  await page.keyboard.press("Escape");
  const before = (await boxes()).length;
  await to(0.02, 0.9);
  await page.mouse.down();
  await to(0.1, 0.97);
  await page.mouse.up();
  await to(0.1, 0.97);
  await page.mouse.down();
  await to(0.2, 0.99);
  await page.mouse.up();
  await saved();
  const mouse = (await boxes()).at(-1);
  assert.ok(before <= (await boxes()).length);
  assert.ok(Math.abs(mouse[3] - 0.18) < 0.01 && Math.abs(mouse[4] - 0.09) < 0.01, `${mouse}`);
  await picture(page, "annotate");
  // A class whose name is HTML stays a name.
  await page.getByLabel("New class").fill('<img src=x onerror="window.broken=1">');
  await page.getByRole("button", { name: "Add" }).click();
  await page.getByRole("radio", { name: "<img" }).click();
  await saved();
  assert.equal((await boxes()).at(-1)[0], 1);
  assert.equal(await page.evaluate(() => window.broken), undefined);
  await page.keyboard.press("Control+z");
  await saved();
});

test("a model learns: queue, live progress, curves, result", async () => {
  await at("/train");
  await page.getByLabel("Start from which model?").selectOption({ label: "yolov12n" });
  await page.getByRole("radio", { name: /Only the last layers/ }).check();
  await page.getByLabel("Passes over the pictures").fill("2");
  await page.getByLabel("Image size").selectOption("224");
  await page.getByLabel("Name of the run").fill("Head only");
  await picture(page, "train");
  await page.getByRole("button", { name: "Start training" }).click();
  await page.waitForURL(/\/runs\/\d+/);
  await badge("Training").waitFor();
  await page.getByText(/Pass \d of 2/).waitFor();
  await page.getByText("Time left").waitFor();
  await badge("Done").waitFor({ timeout: 240_000 });
  await page.getByText("mAP50-95").first().waitFor();
  await page.locator(".drawings img").first().waitFor();
  const [job] = (await studio.ask("GET", "/api/jobs")).jobs;
  assert.equal(job.epochs_done, 2);
  assert.equal(job.attempt, 1);
  const { curves } = await studio.ask("GET", `/api/jobs/${job.id}/curves`);
  assert.deepEqual(curves.find((curve) => curve.name === "metric/mAP50").epochs, [1, 2]);
  await page.getByText("Log").click();
  await page.getByText(/epoch 2\/2/).waitFor();
});

test("a run is stopped, goes on where it stopped, and two runs are compared", async () => {
  await at("/train");
  await page.getByRole("radio", { name: /Gently/ }).check();
  await page.getByLabel("Passes over the pictures").fill("3");
  await page.getByLabel("Image size").selectOption("224");
  await page.getByLabel("Name of the run").fill("All layers");
  await page.getByRole("button", { name: "Start training" }).click();
  await page.getByText(/Pass [12] of 3/).waitFor({ timeout: 120_000 });
  await page.getByRole("button", { name: "Stop" }).click();
  await badge("Stopped").waitFor({ timeout: 120_000 });
  await page.getByRole("button", { name: "Go on" }).click();
  await badge("Done").waitFor({ timeout: 240_000 });
  await page.evaluate(() => window.scrollTo(0, 0));
  await picture(page, "run");
  const [job] = (await studio.ask("GET", "/api/jobs")).jobs;
  assert.equal(job.attempt, 2);
  assert.equal(job.epochs_done, 3);
  await at("/runs");
  await page.getByLabel(/Choose to compare: Head only/).check();
  await page.getByLabel(/Choose to compare: All layers/).check();
  await page.getByRole("link", { name: /Compare 2 runs/ }).click();
  await page.getByRole("cell", { name: "All layers" }).waitFor();
  await page.locator(".u-over").waitFor();
  await picture(page, "compare");
});

test("an argument that makes no sense is refused with its remedy", async () => {
  await at("/train");
  await page.getByRole("radio", { name: /Expert/ }).check();
  await page.getByLabel(/^lr0/).fill("-1");
  await page.getByRole("button", { name: "Start training" }).click();
  await page.getByRole("alert").getByText("lr0 must be above 0").waitFor();
  // The browser logs the refused request itself; it is what was asked for.
  browser.complaints.length = 0;
});

test("a picture is dropped on a model, and the slider decides what counts", async () => {
  const { models } = await studio.ask("GET", "/api/models");
  await at(`/models/${models.find((model) => model.name === "yolov12n").id}`);
  await page.locator('input[type="file"]').setInputFiles(path.join(assets, "photos/bus.jpg"));
  await page.locator(".found").waitFor({ timeout: 120_000 });
  const found = async () => +(await page.locator(".found").getAttribute("data-count"));
  // The published picture: a bus and people, of whom four are certain.
  assert.ok((await found()) >= 5);
  await page.locator(".tags", { hasText: "bus" }).waitFor();
  await picture(page, "try");
  await page.getByLabel(/Confidence/).fill("0.9");
  assert.equal(await found(), 1);
});

test("a trained model leaves as ONNX, proved", async (context) => {
  if (!(await studio.ask("GET", "/api/about")).exports) return context.skip("this program has no export");
  const { models } = await studio.ask("GET", "/api/models");
  await at(`/models/${models.find((model) => model.origin === "run").id}`);
  await page.getByRole("button", { name: "Make ONNX" }).click();
  await page.getByText(/Proved on \d+ pictures?/).waitFor({ timeout: 240_000 });
  const download = page.waitForEvent("download");
  await page.getByRole("link", { name: "ONNX" }).click();
  const file = path.join(files, "model.onnx");
  await (await download).saveAs(file);
  const about = JSON.parse(execFileSync(program, ["inspect", file, "--json"], { maxBuffer: 64 << 20 }));
  assert.equal(about.format, "onnx");
  assert.deepEqual(about.classes.slice(0, 1), ["Tree"]);
});

test("a model suggests boxes for a picture", async () => {
  const set = (await studio.ask("GET", "/api/datasets")).datasets[0];
  const image = (await studio.ask("GET", `/api/datasets/${set.id}/images?split=val&limit=1`)).images[0];
  await at(`/data/${set.id}/image/${image.id}`);
  await page.locator("svg .box").first().waitFor();
  await page.keyboard.press("p");
  await page.getByText(/suggested; \d+ of other classes left out/).waitFor({ timeout: 120_000 });
});

test("every page is free of barriers, in light and dark, in both languages, also on a phone", async () => {
  const set = (await studio.ask("GET", "/api/datasets")).datasets[0];
  const image = (await studio.ask("GET", `/api/datasets/${set.id}/images?limit=1`)).images[0];
  const model = (await studio.ask("GET", "/api/models")).models[0];
  const runs = (await studio.ask("GET", "/api/jobs")).jobs.map((job) => job.id);
  const places = [
    "/",
    "/data",
    `/data/${set.id}`,
    `/data/${set.id}?tab=report`,
    `/data/${set.id}?tab=charts`,
    `/data/${set.id}?tab=versions`,
    `/data/${set.id}/image/${image.id}`,
    "/models",
    `/models/${model.id}`,
    "/train",
    "/runs",
    `/runs/${runs[0]}`,
    `/compare?runs=${runs.slice(0, 2)}`,
  ];
  const found = [];
  for (const [i, place] of places.entries()) {
    const dark = i % 2 === 1;
    await page.emulateMedia({ colorScheme: dark ? "dark" : "light" });
    for (const language of ["en", "ja"]) {
      await page.evaluate((language) => localStorage.setItem("language", language), language);
      await page.setViewportSize(language === "ja" ? { width: 390, height: 844 } : { width: 1280, height: 800 });
      await at(place);
      await page.locator("main h1, main .bench").first().waitFor();
      await page.waitForLoadState("load");
      await page.waitForTimeout(400);
      assert.equal(await page.getAttribute("html", "lang"), language);
      found.push(...(await barriers(page)).map((barrier) => `${place} ${language}: ${barrier}`));
      assert.ok((await wide(page)) <= 0, `${place} is wider than the screen in ${language}`);
      if (place === `/data/${set.id}` && language === "ja") await picture(page, "phone-japanese");
      if (place === `/runs/${runs[0]}` && dark && language === "en") await picture(page, "run-dark");
    }
  }
  assert.deepEqual(found, []);
});

test("nothing was asked of any other host, and no page complained", () => {
  assert.deepEqual(browser.foreign, []);
  assert.deepEqual(browser.complaints, []);
});
