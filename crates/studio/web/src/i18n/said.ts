// What the server says, in the person's language. Its English sentence is the message's id, what varies in it are the
// parameters: `there is no data set {}` is found for "there is no data set 7", and 7 goes into the translation.
import { language } from ".";
import japanese from "./said.ja.json";

interface Sentence {
  shape: RegExp;
  /** Characters that do not vary: the sentence with most of them is meant. */
  fixed: number;
  words: string;
}

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

const sentences: Sentence[] = Object.entries(japanese)
  .map(([english, words]) => {
    const parts = english.split("{}");
    return { shape: new RegExp(`^${parts.map(escaped).join("(.+?)")}$`, "s"), fixed: parts.join("").length, words };
  })
  .sort((a, b) => b.fixed - a.fixed);

/** A sentence of the server; one that has no translation stays as it is. */
export function said(text: string): string {
  if (language.get() !== "ja") return text;
  for (const { shape, words } of sentences) {
    const found = shape.exec(text);
    if (!found) continue;
    let next = 1;
    return words.replace(/\{(\d?)\}/g, (_, place: string) => found[place ? +place : next++] ?? "");
  }
  return text;
}
