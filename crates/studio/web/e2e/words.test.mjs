// Every sentence that a person is told in the studio has its Japanese: the server's own, and those of the engine whose
// errors end a training, an export, a trial or a comparison.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { root } from "./studio.mjs";

const read = (name) => JSON.parse(fs.readFileSync(new URL(`../src/i18n/${name}`, import.meta.url)));
const server = read("said.ja.json");
const engine = read("engine.ja.json");
const source = path.join(root, "crates/studio/src");

// What is said in a terminal at the start, or to programs; and the word before a path, of which the whole sentence is listed.
const elsewhere = ["config.rs", "lib.rs", "worker.rs", "store/migrate.rs", "store/tests.rs", "http/assets.rs", "http/answer.rs"];

const call = /(Problem::(?:invalid|missing|conflict|internal|path)|\.hint)\(\s*(?:format!\(\s*)?"((?:[^"\\]|\\.)*)"/gs;

/** A literal of Rust as the message's id: what varies in it as `{}`. */
const idOf = (literal) =>
  literal
    .replace(/\\\n\s*/g, "")
    .replace(/\\n/g, "\n")
    .replace(/\\"/g, '"')
    .replace(/\{[^}]*\}/g, "{}");

test("every sentence that the server says to a person is there in Japanese", () => {
  const missing = [];
  for (const name of fs.readdirSync(source, { recursive: true })) {
    if (!name.endsWith(".rs") || elsewhere.includes(name) || name === "problem.rs") continue;
    const text = fs.readFileSync(path.join(source, name), "utf8").split("#[cfg(test)]\nmod tests")[0];
    for (const [, kind, literal] of text.matchAll(call)) {
      const plain = idOf(literal);
      // A cause follows these, and a path the second.
      const sentence = kind.endsWith("internal") ? `${plain}: {}` : kind.endsWith("path") ? `${plain} {}: {}` : plain;
      const varied = new Set([sentence, sentence.replace("have {}, and the model {} {}", "have boxes, and the model {} classifies")]);
      if (![...varied].some((one) => one in server)) missing.push(`${name}: ${sentence}`);
    }
  }
  assert.deepEqual(missing, []);
});

// Where the engine's errors stand that the studio's jobs can end with. Those of the GPU's driver, of the search and of `check
// --fix`, which it never runs, do not belong to them; nor does what says that this program itself is at fault.
const errors = [
  "tune/src/durable.rs",
  "tune/src/data/augment/config.rs",
  "tune/src/data/cache.rs",
  "tune/src/data/index/error.rs",
  "tune/src/data/loader.rs",
  "tune/src/engine/features.rs",
  "tune/src/engine/mod.rs",
  "tune/src/engine/place.rs",
  "tune/src/evaluate/error.rs",
  "tune/src/export/job.rs",
  "tune/src/export/proof/mod.rs",
  "tune/src/models/error.rs",
  "tune/src/models/open.rs",
  "tune/src/predict/mod.rs",
  "tune/src/train/added/error.rs",
  "tune/src/train/clip.rs",
  "tune/src/train/error.rs",
  "tune/src/train/loss/mod.rs",
  "tune/src/train/recipe.rs",
  "tune/src/train/recipe/run_dir.rs",
  "tune/src/train/recipe/table.rs",
  "tune/src/train/recipe/values.rs",
  "tune/src/train/state.rs",
  "intake/src/archive/error.rs",
  "intake/src/checkpoint/error.rs",
  "intake/src/data_yaml/error.rs",
  "intake/src/labels/file.rs",
  "intake/src/picture/error.rs",
];

/** Whose last part is one of two sentences; both are there. */
const open = new Set(["unknown key `{}`{}"]);

/** The sentences of a file's errors, of their hints, and of what an argument must be. */
function* sentences(file) {
  const text = fs.readFileSync(path.join(root, "crates", file), "utf8").split("#[cfg(test)]\nmod tests")[0];
  for (const [, literal] of text.matchAll(/#\[error\(\s*"((?:[^"\\]|\\.)*)"/gs)) yield idOf(literal);
  for (const [, body] of text.matchAll(/pub fn hint\(.*?\{\n(.*?)\n    \}\n/gs))
    for (const [, literal] of body.matchAll(/"((?:[^"\\]|\\.)*)"(?=\s*(?:\.into\(\)|,\s*\n|\)|,$))/gs)) yield idOf(literal);
  for (const [, literal] of text.matchAll(/Err\(\s*(?:format!\()?"((?:[^"\\]|\\.)*)"/gs)) yield idOf(literal);
  for (const [, literal] of text.matchAll(/(?:refuse|Contradiction)\(\s*(?:format!\(\s*)?"((?:[^"\\]|\\.)*)"/gs)) yield idOf(literal);
}

test("every error that the engine ends a job with is there in Japanese", () => {
  const missing = new Set();
  for (const file of errors)
    for (const sentence of sentences(file)) {
      // `{}: {}` and the like have no words of their own.
      const words = sentence.replace(/\{\}|[^a-z ]/gi, "").trim();
      if (words.includes(" ") && !(sentence in engine) && !(sentence in server) && !open.has(sentence)) missing.add(`${file}: ${sentence}`);
    }
  assert.deepEqual([...missing], []);
});

test("every kind of fault has its words", () => {
  const text = fs.readFileSync(path.join(root, "crates/tune/src/data/audit/fault.rs"), "utf8");
  const [, kinds] = /pub enum FaultKind \{\n(.*?)\n\}/s.exec(text);
  const words = fs.readFileSync(new URL("../src/i18n/en.ts", import.meta.url), "utf8");
  const named = [...kinds.matchAll(/^ {4}(\w+),$/gm)].map(([, name]) => name.replace(/(?<!^)[A-Z]/g, "_$&").toLowerCase());
  assert.ok(named.length > 40, "the list of kinds was not found");
  assert.deepEqual(named.filter((kind) => !words.includes(` fault_${kind}:`)), []);
});

test("no Japanese sentence asks for a part that its English does not have", () => {
  for (const [english, words] of [...Object.entries(server), ...Object.entries(engine)]) {
    const parts = english.split("{}").length - 1;
    const asked = [...words.matchAll(/\{(\d?)\}/g)];
    // The engine speaks of command lines and in plurals: what a page has no use for may stay away, where it is named.
    const named = asked.every(([, place]) => place);
    if (english in server || !named) assert.equal(asked.length, parts, english);
    for (const [, place] of asked) assert.ok(!place || (+place >= 1 && +place <= parts), english);
  }
});
