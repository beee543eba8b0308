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
  const set = (await studio.ask("GET", "/api/datasets")).datasets.find(({ name }) => name === "trees");
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

/** Passes after which a model is sure of some trees. */
const ENOUGH = 10;

test("a run is stopped, goes on where it stopped, and two runs are compared", async () => {
  await at("/train");
  await page.getByRole("radio", { name: /The full recipe/ }).check();
  await page.getByLabel("Passes over the pictures").fill(String(ENOUGH));
  await page.getByLabel("Image size").selectOption("224");
  await page.getByLabel("Name of the run").fill("All layers");
  await page.getByRole("button", { name: "Start training" }).click();
  await page.getByText(new RegExp(`Pass [123] of ${ENOUGH}`)).waitFor({ timeout: 120_000 });
  await page.getByRole("button", { name: "Stop" }).click();
  await badge("Stopped").waitFor({ timeout: 120_000 });
  await page.getByRole("button", { name: "Go on" }).click();
  await badge("Done").waitFor({ timeout: 240_000 });
  await page.evaluate(() => window.scrollTo(0, 0));
  await picture(page, "run");
  const [job] = (await studio.ask("GET", "/api/jobs")).jobs;
  assert.equal(job.attempt, 2);
  assert.equal(job.epochs_done, ENOUGH);
  await at("/runs");
  await page.getByLabel(/Choose to compare: Head only/).check();
  await page.getByLabel(/Choose to compare: All layers/).check();
  await page.getByRole("link", { name: /Compare 2 runs/ }).click();
  await page.getByRole("cell", { name: "All layers" }).waitFor();
  await page.locator(".u-over").waitFor();
  await picture(page, "compare");
});

test("two models are measured on the same pictures: intervals, confusion, and where they disagree", async () => {
  // On the page that the last test left open.
  await page.getByRole("button", { name: "Compare on the pictures" }).click();
  const sides = page.locator(".sides");
  await sides.getByText(/pictures? on which the models disagree/).waitFor({ timeout: 240_000 });
  const [all, head] = (await studio.ask("GET", "/api/jobs")).jobs;
  const models = [head.result_model, all.result_model];
  const answer = await studio.ask("GET", `/api/comparisons?models=${models}&version=${all.data.version}`);
  for (const { metrics, state } of answer.sides) {
    assert.equal(state, "done");
    const { low, high } = metrics.intervals.map50;
    assert.ok(low <= metrics.map50 && metrics.map50 <= high, JSON.stringify(metrics.intervals));
    assert.equal(metrics.images, 9);
  }
  assert.equal(await sides.locator(".confusion table").count(), 2);
  assert.equal(await sides.locator(".disputes > li").count(), answer.pictures.length);
  assert.ok(answer.disputed > 0, "one has learnt much longer: they cannot agree on every tree");
  const shown = sides.locator(".disputes > li").first();
  await shown.scrollIntoViewIfNeeded();
  await page.waitForFunction(() => [...document.querySelectorAll(".disputes > li:first-child img")].every((img) => img.complete && img.naturalWidth > 0));
  assert.equal(await shown.locator("rect.alone").count(), answer.pictures[0].said[0].alone.length + answer.pictures[0].said[1].alone.length);
  const differ = answer.pictures[0].differences;
  await shown.getByText(`${differ} ${differ === 1 ? "box differs" : "boxes differ"}`).waitFor();
  await picture(page, "disagree");
});

test("a finished run is trained on, and shows meanwhile what it finds", async () => {
  const run = (await studio.ask("GET", "/api/jobs")).jobs.find((job) => job.name === "Head only");
  const before = (await studio.ask("GET", `/api/models/${run.result_model}`)).sha256;
  await at(`/runs/${run.id}`);
  await page.getByRole("button", { name: "Train longer" }).click();
  await page.getByLabel("Passes in all").fill("2");
  await page.getByRole("dialog").getByRole("button", { name: "Train longer" }).click();
  await page.getByRole("alert").getByText("the run has done 2 passes").waitFor();
  browser.complaints.length = 0;
  await page.getByLabel("Passes in all").fill("3");
  await page.getByRole("dialog").getByRole("button", { name: "Train longer" }).click();
  await page.getByRole("heading", { name: "What it finds now" }).waitFor({ timeout: 120_000 });
  await page.waitForFunction(() => document.querySelector("img.samples")?.naturalWidth > 0);
  await badge("Done").waitFor({ timeout: 240_000 });
  const after = (await studio.ask("GET", "/api/jobs")).jobs.find((job) => job.id === run.id);
  assert.equal(after.epochs_done, 3);
  assert.equal(after.result_model, run.result_model);
  const { curves } = await studio.ask("GET", `/api/jobs/${run.id}/curves`);
  assert.deepEqual(curves.find((curve) => curve.name === "metric/mAP50").epochs, [1, 2, 3]);
  assert.equal(typeof before, "string");
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

/** A square piece of a picture of the data set: as PNG, and its pixels as RGB bytes. */
async function piece(side) {
  const set = (await studio.ask("GET", "/api/datasets")).datasets.find(({ name }) => name === "trees");
  const image = (await studio.ask("GET", `/api/datasets/${set.id}/images?split=val&limit=1`)).images[0];
  const [png, pixels] = await page.evaluate(
    async ([id, side]) => {
      const picture = await createImageBitmap(await (await fetch(`/api/images/${id}/picture`)).blob());
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = side;
      const paper = canvas.getContext("2d");
      paper.drawImage(picture, 0, 0);
      const png = canvas.toDataURL("image/png").split(",")[1];
      return [png, [...paper.getImageData(0, 0, side, side).data.filter((_, i) => i % 4 < 3)]];
    },
    [image.id, side],
  );
  const names = { png: path.join(files, "piece.png"), raw: path.join(files, "piece.rgb") };
  fs.writeFileSync(names.png, Buffer.from(png, "base64"));
  fs.writeFileSync(names.raw, Uint8Array.from(pixels));
  return names;
}

const python = process.env.ONSA_PYTHON ?? "python3";
const runtime = (() => {
  try {
    return execFileSync(python, ["-c", "import onnxruntime, numpy; print(onnxruntime.__version__)"], { stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return undefined;
  }
})();

test("a trained model leaves in every format, and its ONNX finds the same boxes in ONNX Runtime", async (context) => {
  const { models } = await studio.ask("GET", "/api/models");
  const model = models.find((model) => model.name === "All layers");
  await at(`/models/${model.id}`);
  const file = {};
  for (const [name, format] of [
    ["ONNX", "onnx"],
    ["ONNX, picture in, answer out", "onnx-whole"],
    ["PyTorch", "torch"],
    ["safetensors", "safetensors"],
    ["LiteRT", "tflite"],
    ["LiteRT, 8 bits", "tflite-int8"],
  ]) {
    const row = page.locator(".exports li", { has: page.getByText(name, { exact: true }) });
    await row.getByRole("button", { name: `Make ${name}`, exact: true }).click();
    const link = row.getByRole("link", { name: `Download: ${name}, ` });
    await link.waitFor({ timeout: 240_000 });
    await row.getByText(/Proved on 9 pictures: .* of the boxes agree.*mAP50-95 on them: /).waitFor();
    const download = page.waitForEvent("download");
    await link.click();
    file[format] = path.join(files, `model-${format}`);
    await (await download).saveAs(file[format]);
    assert.ok(fs.statSync(file[format]).size > 1 << 20, name);
  }
  assert.ok(fs.statSync(file["tflite-int8"]).size < 0.4 * fs.statSync(file.tflite).size, "numbers of 8 bits take less room");
  await page.locator(".exports").scrollIntoViewIfNeeded();
  await picture(page, "downloads");
  // What was made stays.
  await page.reload();
  await page.getByRole("link", { name: "Download: LiteRT, 8 bits" }).waitFor();
  const about = JSON.parse(execFileSync(program, ["inspect", file.onnx, "--json"], { maxBuffer: 64 << 20 }));
  assert.equal(about.format, "onnx");
  assert.deepEqual(about.classes.slice(0, 1), ["Tree"]);

  if (!runtime && !process.env.CI) return context.skip("ONNX Runtime is not installed: tests/run sets it up");
  // As large as the network's input: no resizing stands between the two.
  const side = model.about.imgsz[0];
  const { png, raw } = await piece(side);
  const answer = await page.evaluate(
    async ([id, base64]) => {
      const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      return (await fetch(`/api/models/${id}/predict?conf=0.05`, { method: "POST", body: bytes })).json();
    },
    [model.id, fs.readFileSync(png).toString("base64")],
  );
  assert.ok(answer.boxes.length > 0, "the trained model finds something in a picture of trees");
  for (const [format, least] of [
    ["onnx", 0.05],
    ["onnx-whole", 0.25],
  ]) {
    const script = new URL("run_onnx.py", import.meta.url).pathname;
    const found = JSON.parse(execFileSync(python, [script, file[format], raw, String(side), String(least)]));
    const wanted = answer.boxes.filter(({ score }) => score >= least);
    assert.equal(found.length, wanted.length, format);
    for (const box of wanted) {
      // Boxes of the network alone may reach beyond the picture.
      const inside = (x) => Math.min(Math.max(x, 0), side);
      const same = (other) => other.class === box.class && other.xyxy.every((x, i) => Math.abs(inside(x) - box.xyxy[i]) < 0.5);
      assert.ok(found.some((other) => same(other) && Math.abs(other.score - box.score) < 2e-3), `${format}: ${JSON.stringify(box)}`);
    }
  }
});

/** Starts a model's endpoint on its page. `run` does what a snippet says, as a person who copies it would. */
async function answering(model) {
  await at(`/models/${model}`);
  const card = page.locator(".endpoint");
  await card.getByRole("button", { name: "Start an endpoint" }).click();
  await card.getByText("Answering").waitFor({ timeout: 120_000 });
  const { endpoint } = await studio.ask("GET", `/api/models/${model}/endpoint`);
  const run = async (name, command, ending) => {
    await card.getByRole("tab", { name }).click();
    const script = path.join(files, `snippet.${ending}`);
    fs.writeFileSync(script, await card.locator(".snippet").textContent());
    return execFileSync(command, [script], { cwd: files, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  };
  return { card, endpoint, run };
}

test("an endpoint answers curl, Python and JavaScript with boxes, and ends", async () => {
  const { models } = await studio.ask("GET", "/api/models");
  const model = models.find((model) => model.name === "yolov12n");
  const { card, endpoint, run } = await answering(model.id);
  const bare = await fetch(`${endpoint.address}/v1/predict`, { method: "POST", body: "x" });
  assert.equal(bare.status, 401, "without the key it answers nobody");
  fs.copyFileSync(path.join(assets, "photos/bus.jpg"), path.join(files, "photo.jpg"));
  const { boxes } = JSON.parse(await run("curl", "sh", "sh"));
  assert.ok(boxes.length >= 5 && boxes.some(({ name }) => name === "bus"), JSON.stringify(boxes));
  await picture(page, "endpoint");
  const said = await run("Python", python, "py");
  assert.equal(said.trim().split("\n").length, boxes.length);
  assert.match(said, /^bus 0\.\d+ \[/m);
  assert.equal((await run("JavaScript", process.execPath, "mjs")).split("bus").length, said.split("bus").length);
  await browser.context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await card.getByRole("button", { name: "Copy" }).click();
  await card.getByText("Copied").waitFor();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /Bearer/);
  await page.waitForFunction(() => [...document.querySelectorAll(".endpoint dd")].some((dd) => dd.textContent === "3"));
  await card.getByRole("button", { name: "Stop the endpoint" }).click();
  await card.getByRole("button", { name: "Start an endpoint" }).waitFor();
  await assert.rejects(fetch(`${endpoint.address}/health`));
});

test("a model suggests boxes for a picture", async () => {
  const set = (await studio.ask("GET", "/api/datasets")).datasets.find(({ name }) => name === "trees");
  const image = (await studio.ask("GET", `/api/datasets/${set.id}/images?split=val&limit=1`)).images[0];
  await at(`/data/${set.id}/image/${image.id}`);
  await page.locator("svg .box").first().waitFor();
  await page.keyboard.press("p");
  await page.getByText(/suggested; \d+ of other classes left out/).waitFor({ timeout: 120_000 });
});

/** A zip of these files, as an upload of the page. `whole`: it becomes a version at once. */
async function bring(name, entries, whole = true) {
  const file = path.join(files, `${name}.zip`);
  fs.writeFileSync(file, zipSync(entries));
  await at("/data");
  await page.locator('input[type="file"]').setInputFiles(file);
  await page.getByRole("heading", { name, exact: true }).waitFor();
  await page.waitForURL(/\/data\/\d+/);
  const id = +page.url().match(/data\/(\d+)/)[1];
  const there = async () =>
    whole ? (await studio.ask("GET", `/api/datasets/${id}/versions`)).versions.length : (await studio.ask("GET", `/api/datasets/${id}`)).checked;
  for (let i = 0; !(await there()); i++) {
    assert.ok(i < 300, "it never became a data set");
    await page.waitForTimeout(100);
  }
  return id;
}

test("a model labels the pictures that nobody has labelled, and no other", async () => {
  const from = path.join(assets, "trees/images/val");
  const names = fs.readdirSync(from).slice(0, 4);
  const entries = { "data.yaml": new TextEncoder().encode("train: images/train\nval: images/val\nnames: [Tree]\n") };
  names.forEach((name, i) => {
    entries[`images/${i < 3 ? "train" : "val"}/${name}`] = new Uint8Array(fs.readFileSync(path.join(from, name)));
  });
  const label = `labels/train/${names[0].replace(/\.\w+$/, ".txt")}`;
  entries[label] = new TextEncoder().encode("0 0.5 0.5 0.125 0.25\n");
  const id = await bring("unlabelled", entries);
  await page.getByRole("button", { name: "Let a model label" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Model for suggestions").selectOption({ label: "All layers" });
  await dialog.getByLabel(/Confidence/).fill("5");
  await dialog.getByRole("button", { name: "Let a model label" }).click();
  await dialog.waitFor({ state: "detached" });
  for (let i = 0; !(await studio.ask("GET", `/api/datasets/${id}/images?only=suggested`)).total; i++) {
    assert.ok(i < 600, "no picture was labelled");
    await page.waitForTimeout(100);
  }
  const { images } = await studio.ask("GET", `/api/datasets/${id}/images`);
  assert.deepEqual(images.find((image) => image.name === names[0]).boxes, [[0, 0.5, 0.5, 0.125, 0.25]]);
  await page.getByRole("combobox", { name: /^Show/ }).selectOption("suggested");
  await page.waitForURL(/only=suggested/);
});

/** Two kinds of pictures that anyone tells apart, drawn here: six of each to learn from, two to be judged on. `called`: the folder
 * of a kind. */
async function skies(called) {
  const drawn = await page.evaluate(() => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 64;
    const paper = canvas.getContext("2d");
    const all = [];
    for (const kind of ["night", "noon"])
      for (let i = 0; i < 8; i++) {
        paper.fillStyle = kind === "night" ? `rgb(${10 + i}, 10, 60)` : `rgb(250, ${220 + i}, 120)`;
        paper.fillRect(0, 0, 64, 64);
        paper.fillStyle = kind === "night" ? "#fff" : "#f60";
        paper.beginPath();
        paper.arc(10 + 6 * i, 20, kind === "night" ? 3 : 14, 0, 7);
        paper.fill();
        all.push([kind, i, canvas.toDataURL("image/png").split(",")[1]]);
      }
    return all;
  });
  const name = (kind, i) => `sky/${i < 6 ? "train" : "val"}/${called(kind)}/${kind}-${i}.png`;
  return Object.fromEntries(drawn.map(([kind, i, base64]) => [name(kind, i), new Uint8Array(Buffer.from(base64, "base64"))]));
}

/** Passes that a classifier of skies needs. */
const PASSES = 20;

/** Trains the last layers of a classifier on a data set, as a person does. */
async function learn(data, name) {
  await at(`/train?data=${data}`);
  await page.getByLabel("Start from which model?").selectOption({ label: "efficientnet-lite0-57934424" });
  await page.getByRole("radio", { name: /Only the last layers/ }).check();
  await page.getByLabel("Passes over the pictures").fill(String(PASSES));
  await page.getByLabel("Name of the run").fill(name);
  await page.getByRole("button", { name: "Start training" }).click();
  await badge("Done").waitFor({ timeout: 240_000 });
  await page.getByText("Top-1").first().waitFor();
}

test("pictures alone are enough to begin: a class, a box, a version", async () => {
  const from = path.join(assets, "trees/images/val");
  const names = fs.readdirSync(from).slice(0, 3);
  const entries = names.map((name) => [`photographs/${name}`, new Uint8Array(fs.readFileSync(path.join(from, name)))]);
  const id = await bring("photographs", Object.fromEntries(entries), false);
  await page.getByRole("list", { name: "3 images" }).waitFor();
  await page.getByText("These pictures came without labels").waitFor();
  await page.getByRole("link", { name: "Draw boxes" }).click();
  await page.getByText("Add a first class").first().waitFor();
  await page.getByLabel("New class").fill("tree");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.getByRole("radio", { name: "tree" }).waitFor();
  const { images } = await studio.ask("GET", `/api/datasets/${id}/images`);
  for (const image of images.slice(0, 2)) {
    await at(`/data/${id}/image/${image.id}`);
    await page.getByRole("radio", { name: "tree" }).waitFor();
    await page.locator(".canvas").focus();
    await page.keyboard.press("n");
    await page.locator("svg .box").waitFor();
    await page.locator('[data-saved="true"]').waitFor();
  }
  // A class whose name is HTML stays a name.
  await page.getByLabel("New class").fill('<img src=x onerror="window.broken=1">');
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.getByRole("radio", { name: "<img" }).click();
  await page.locator('[data-saved="true"]').waitFor();
  assert.equal((await studio.ask("GET", `/api/images/${images[1].id}`)).boxes[0][0], 1);
  assert.equal(await page.evaluate(() => window.broken), undefined);
  await page.keyboard.press("Control+z");
  await page.locator('[data-saved="true"]').waitFor();
  await at(`/data/${id}?tab=versions`);
  await page.getByRole("button", { name: "Make a version" }).click();
  await page.getByText("Version 1").waitFor();
  const [version] = (await studio.ask("GET", `/api/datasets/${id}/versions`)).versions;
  assert.deepEqual([version.images, version.boxes], [2, 2], "of the third nobody has said what it shows");
});

test("a remedy is one click, and makes a new version", async () => {
  const from = path.join(assets, "trees/images/val");
  const entries = { "data.yaml": new TextEncoder().encode("train: images/train\nval: images/val\nnames: [Tree]\n") };
  fs.readdirSync(from)
    .slice(0, 4)
    .forEach((name, i) => {
      const part = i < 3 ? "train" : "val";
      entries[`images/${part}/${name}`] = new Uint8Array(fs.readFileSync(path.join(from, name)));
      // The first has a sound box, and one of a class that does not exist.
      const rows = i === 0 ? "0 0.5 0.5 0.125 0.25\n7 0.2 0.2 0.1 0.1\n" : "0 0.5 0.5 0.125 0.25\n";
      entries[`labels/${part}/${name.replace(/\.\w+$/, ".txt")}`] = new TextEncoder().encode(rows);
    });
  const id = await bring("faulty", entries);
  const versions = async () => (await studio.ask("GET", `/api/datasets/${id}/versions`)).versions;
  assert.deepEqual((await versions()).map(({ images }) => images), [3], "what cannot be trusted is left out");
  await page.getByRole("tab", { name: "Report" }).click();
  await page.getByText("A class number that does not exist").first().waitFor();
  await picture(page, "report");
  await page.getByRole("button", { name: "Use the sound boxes" }).click();
  await page.getByText("1 picture changed, 0 left as they are.").waitFor();
  await page.getByRole("link", { name: "Version 2 was made." }).click();
  await page.getByText("faults mended").waitFor();
  assert.deepEqual((await versions()).map(({ number, images, boxes }) => [number, images, boxes]), [[2, 4, 4], [1, 3, 3]]);
});

test("folders of classes: one is corrected, a classifier learns them, and names a picture", async () => {
  const entries = await skies((kind) => kind);
  // One lies in the wrong folder.
  entries["sky/train/noon/night-5.png"] = entries["sky/train/night/night-5.png"];
  delete entries["sky/train/night/night-5.png"];
  const id = await bring("sky", entries);
  await page.getByText("16 images · 2 classes").waitFor();
  const wrong = (await studio.ask("GET", `/api/datasets/${id}/images`)).images.find((image) => image.name === "night-5.png");
  await at(`/data/${id}?class=1`);
  await page.getByRole("list", { name: "9 images" }).waitFor();
  await at(`/data/${id}/image/${wrong.id}`);
  await page.getByRole("radio", { name: "noon", checked: true }).waitFor();
  await page.keyboard.press("1");
  await page.getByRole("radio", { name: "night", checked: true }).waitFor();
  await page.locator('[data-saved="true"]').waitFor();
  assert.deepEqual((await studio.ask("GET", `/api/images/${wrong.id}`)).boxes, [[0, 0.5, 0.5, 1, 1]]);
  await picture(page, "classes");
  await learn(id, "Sky");
  await page.getByRole("link", { name: "Try the model" }).click();
  const night = Buffer.from(entries["sky/val/night/night-6.png"]);
  fs.writeFileSync(path.join(files, "photo.jpg"), night);
  await page.locator('input[type="file"]').setInputFiles({ name: "n.png", mimeType: "image/png", buffer: night });
  await page.getByRole("row", { name: /night/ }).waitFor({ timeout: 120_000 });
  assert.match(await page.locator(".bars th").first().textContent(), /night/);
});

test("a classifier leaves as a file that takes a picture, and in 8 bits, proved by the classes that it gives", async () => {
  const { id } = (await studio.ask("GET", "/api/models")).models.find((model) => model.name === "Sky");
  await at(`/models/${id}`);
  for (const name of ["ONNX, picture in, answer out", "LiteRT, 8 bits"]) {
    const row = page.locator(".exports li", { has: page.getByText(name, { exact: true }) });
    await row.getByRole("button", { name: `Make ${name}`, exact: true }).click();
    await row.getByText(/Proved on 4 pictures: .* get the same class.*Top-1 on them: /).waitFor({ timeout: 240_000 });
    await row.getByRole("link", { name: `Download: ${name}, ` }).waitFor();
  }
});

test("the endpoint of a classifier answers with classes", async () => {
  const { id } = (await studio.ask("GET", "/api/models")).models.find((model) => model.name === "Sky");
  const { card, run } = await answering(id);
  const { top5 } = JSON.parse(await run("curl", "sh", "sh"));
  assert.equal(top5[0].name, "night");
  assert.ok(top5[0].score > 0.5 && top5.length === 2, JSON.stringify(top5));
  assert.match(await run("Python", python, "py"), /^night [01]\.\d+$/m);
  assert.match(await run("JavaScript", process.execPath, "mjs"), /^night [01]\.\d+$/m);
  await card.scrollIntoViewIfNeeded();
  await picture(page, "endpoint-classes");
  await card.getByRole("button", { name: "Stop the endpoint" }).click();
  await card.getByRole("button", { name: "Start an endpoint" }).waitFor();
});

test("two classifiers are compared: curves, figures with intervals, and the pictures that they name differently", async () => {
  // The second has learnt from somebody who takes night for noon: whatever else it does, it disagrees.
  const entries = await skies((kind) => (kind === "night" ? "noon" : "night"));
  await learn(await bring("mistaken", entries), "Mistaken");
  await at("/runs");
  await page.getByLabel("Choose to compare: Sky").check();
  await page.getByLabel("Choose to compare: Mistaken").check();
  await page.getByRole("link", { name: /Compare 2 runs/ }).click();
  await page.getByRole("cell", { name: "Mistaken" }).waitFor();
  // Their own figure is shown first: mAP says nothing of classifiers.
  assert.equal(await page.getByLabel("Figure").inputValue(), "metric/top1");
  await page.locator(".u-over").waitFor();
  const jobs = (await studio.ask("GET", "/api/jobs")).jobs;
  const [sky, mistaken] = ["Sky", "Mistaken"].map((name) => jobs.find((job) => job.name === name));
  const curves = await studio.ask("GET", `/api/compare?runs=${sky.id},${mistaken.id}`);
  assert.deepEqual(curves.runs.map(({ curve }) => curve.epochs.length), [PASSES, PASSES]);
  await page.getByLabel("First model").selectOption({ label: "Sky" });
  await page.getByLabel("Second model").selectOption({ label: "Mistaken" });
  await page.getByRole("button", { name: "Compare on the pictures" }).click();
  const sides = page.locator(".sides");
  await sides.getByText("4 pictures on which the models disagree").waitFor({ timeout: 240_000 });
  const answer = await studio.ask("GET", `/api/comparisons?models=${sky.result_model},${mistaken.result_model}&version=${sky.data.version}`);
  assert.deepEqual(answer.sides.map(({ metrics }) => metrics.top1), [1, 0]);
  for (const { metrics } of answer.sides) {
    const { low, high } = metrics.intervals.top1;
    assert.ok(low <= metrics.top1 && metrics.top1 <= high && high - low > 0.2, "of four pictures little can be said");
  }
  await sides.getByRole("row", { name: /^Top-1 100.0 % 95 %: .* 0.0 % 95 %/ }).waitFor();
  const shown = sides.locator(".disputes > li", { has: page.getByText("night/night-6.png") });
  await shown.getByText("labelled night").waitFor();
  await shown.getByText(/^Sky: night/).waitFor();
  await shown.getByText(/^Mistaken: noon/).waitFor();
  await shown.scrollIntoViewIfNeeded();
  await page.waitForFunction(() => [...document.querySelectorAll(".disputes img")].every((img) => img.complete && img.naturalWidth > 0));
  await picture(page, "disagree-classes");
});

test("the server's own words are in the person's language", async () => {
  await page.evaluate(() => localStorage.setItem("language", "ja"));
  await at("/data/999");
  await page.getByRole("alert").getByText("データセット 999 はありません").waitFor();
  // What the engine says of an argument, too.
  await at("/train");
  await page.getByRole("radio", { name: /詳細設定/ }).check();
  await page.getByLabel(/^lr0/).fill("-1");
  await page.getByRole("button", { name: "学習を始める" }).click();
  await page.getByRole("alert").getByText("lr0=-1 は使えません。lr0 に使えるのは 0 より大きい数 です").waitFor();
  await page.evaluate(() => localStorage.setItem("language", "en"));
  await at("/data/999");
  await page.getByRole("alert").getByText("there is no data set 999").waitFor();
  browser.complaints.length = 0;
});

test("every page is free of barriers, in light and dark, in both languages, also on a phone", async () => {
  const set = (await studio.ask("GET", "/api/datasets")).datasets.find(({ name }) => name === "trees");
  const image = (await studio.ask("GET", `/api/datasets/${set.id}/images?limit=1`)).images[0];
  const model = (await studio.ask("GET", "/api/models")).models[0];
  const sky = (await studio.ask("GET", "/api/datasets")).datasets.find(({ name }) => name === "sky");
  const jobs = (await studio.ask("GET", "/api/jobs")).jobs;
  const ids = (classify) => jobs.filter((job) => ["Sky", "Mistaken"].includes(job.name) === classify).map((job) => job.id);
  const [runs, classifiers] = [ids(false), ids(true)];
  const classifier = jobs.find((job) => job.name === "Sky").result_model;
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
    `/data/${sky.id}`,
    `/data/${sky.id}/image/${sky.cover}`,
    `/compare?runs=${runs.slice(0, 2)}`,
    `/models/${classifier}`,
    `/compare?runs=${classifiers}`,
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
