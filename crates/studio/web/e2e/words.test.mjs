// Every sentence that the server says to a person has its Japanese.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { root } from "./studio.mjs";

const japanese = JSON.parse(fs.readFileSync(new URL("../src/i18n/said.ja.json", import.meta.url)));
const source = path.join(root, "crates/studio/src");

// What is said in a terminal at the start, or to programs; and the word before a path, of which the whole sentence is listed.
const elsewhere = ["config.rs", "lib.rs", "worker.rs", "store/migrate.rs", "store/tests.rs", "http/assets.rs", "http/answer.rs"];

const call = /(Problem::(?:invalid|missing|conflict|internal|path)|\.hint)\(\s*(?:format!\(\s*)?"((?:[^"\\]|\\.)*)"/gs;

test("every sentence that the server says to a person is there in Japanese", () => {
  const missing = [];
  for (const name of fs.readdirSync(source, { recursive: true })) {
    if (!name.endsWith(".rs") || elsewhere.includes(name) || name === "problem.rs") continue;
    const text = fs.readFileSync(path.join(source, name), "utf8").split("#[cfg(test)]\nmod tests")[0];
    for (const [, kind, literal] of text.matchAll(call)) {
      const plain = literal
        .replace(/\\\n\s*/g, "")
        .replace(/\\"/g, '"')
        .replace(/\{[^}]*\}/g, "{}");
      // A cause follows these, and a path the second.
      const sentence = kind.endsWith("internal") ? `${plain}: {}` : kind.endsWith("path") ? `${plain} {}: {}` : plain;
      const varied = new Set([sentence, sentence.replace("have {}, and the model {} {}", "have boxes, and the model {} classifies")]);
      if (![...varied].some((one) => one in japanese)) missing.push(`${name}: ${sentence}`);
    }
  }
  assert.deepEqual(missing, []);
});

test("no Japanese sentence asks for a part that its English does not have", () => {
  for (const [english, words] of Object.entries(japanese)) {
    const parts = english.split("{}").length - 1;
    const asked = [...words.matchAll(/\{(\d?)\}/g)];
    assert.equal(asked.length, parts, english);
    for (const [, place] of asked) assert.ok(!place || (+place >= 1 && +place <= parts), english);
  }
});
