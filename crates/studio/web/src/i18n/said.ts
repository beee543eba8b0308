// What the server says, in the person's language. Its English sentence is the message's id, what varies in it are the
// parameters: `there is no data set {}` is found for "there is no data set 7", and 7 goes into the translation. A parameter
// may be a sentence of its own, such as a cause; and of "x.jpg: is empty" the part behind the colon may be one.
import { language } from ".";
import engine from "./engine.ja.json";
import server from "./said.ja.json";

interface Sentence {
  shape: RegExp;
  /** Characters that do not vary: the sentence with most of them is meant. */
  fixed: number;
  words: string;
}

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

const sentences: Sentence[] = Object.entries({ ...engine, ...server })
  .map(([english, words]) => {
    const parts = english.split("{}");
    return { shape: new RegExp(`^${parts.map(escaped).join("(.*?)")}$`, "s"), fixed: parts.join("").length, words };
  })
  .sort((a, b) => b.fixed - a.fixed);

/** Causes of causes; deeper ones stay as they are. */
const DEPTH = 4;

/** A sentence of the server; one that has no translation stays as it is. */
export function said(text: string): string {
  return language.get() === "ja" ? translated(text, DEPTH) : text;
}

function translated(text: string, depth: number): string {
  if (depth === 0 || !/[a-z]/i.test(text)) return text;
  for (const { shape, words } of sentences) {
    const found = shape.exec(text);
    if (!found) continue;
    let next = 1;
    return words.replace(/\{(\d?)\}/g, (_, place: string) => translated(found[place ? +place : next++] ?? "", depth - 1));
  }
  if (text.includes("\n")) return text.split("\n").map((line) => translated(line, depth - 1)).join("\n");
  // The parts of a sentence that begins with a path, or that names its cause.
  for (let at = text.indexOf(": "); at >= 0; at = text.indexOf(": ", at + 1)) {
    const cause = text.slice(at + 2);
    const words = translated(cause, depth - 1);
    if (words !== cause) return `${translated(text.slice(0, at), depth - 1)}: ${words}`;
  }
  return text;
}
