// Words. A text may hold {name} for a value and {n|one|many} for a number with its noun.
import { signal } from "./signal";
import { en } from "./en";
import { ja } from "./ja";

export type Key = keyof typeof en;
export type Language = "en" | "ja";
const words: Record<Language, Record<Key, string>> = { en, ja };

function preferred(): Language {
  const kept = localStorage.getItem("language");
  if (kept === "en" || kept === "ja") return kept;
  return navigator.language.startsWith("ja") ? "ja" : "en";
}

export const language = signal<Language>(preferred());

export function speak(next: Language) {
  localStorage.setItem("language", next);
  document.documentElement.lang = next;
  language.set(next);
}
document.documentElement.lang = language.get();

export function t(key: Key, values: Record<string, string | number> = {}): string {
  return words[language.get()][key].replace(/\{(\w+)(?:\|([^|}]*)\|([^|}]*))?\}/g, (_, name: string, one, many) => {
    const value = values[name] ?? "";
    const shown = typeof value === "number" ? number(value) : value;
    return one === undefined ? shown : `${shown} ${value === 1 ? one : many}`;
  });
}

/** Whether there is a text of that name, such as for a kind of fault. */
export const has = (key: string): key is Key => key in en;

const figureNames: Record<string, Key> = {
  "metric/precision": "precision",
  "metric/recall": "recall",
  "metric/top1": "top1",
  "metric/top5": "top5",
  "metric/balanced_accuracy": "balanced",
  speed: "speed",
  data_wait: "dataWait",
};

/** What a run's figure is called; without `prefix`, which its place on the page says already. */
export function figureName(name: string, prefix = "metric/"): string {
  const key = figureNames[name];
  if (key) return t(key);
  return name.startsWith(prefix) ? name.slice(prefix.length) : name;
}

export const number = (value: number, digits = 0) =>
  value.toLocaleString(language.get(), { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const percent = (value: number | null | undefined) =>
  value === null || value === undefined ? "–" : `${number(value * 100, 1)} %`;

export function size(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  while (bytes >= 1000 && i < units.length - 1) {
    bytes /= 1000;
    i += 1;
  }
  return `${number(bytes, i > 1 ? 1 : 0)} ${units[i]}`;
}

export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 90) return t("seconds", { n: Math.max(1, Math.round(seconds)) });
  if (seconds < 5400) return t("minutes", { n: Math.round(seconds / 60) });
  return t("hours", { n: number(seconds / 3600, 1) });
}

export const moment = (milliseconds: number) =>
  new Date(milliseconds).toLocaleString(language.get(), { dateStyle: "medium", timeStyle: "short" });
