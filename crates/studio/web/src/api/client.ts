// The one way to the server: JSON in, JSON out, problems as errors with a hint.
import type { components } from "../../api/schema";

export type Schemas = components["schemas"];
export type Dataset = Schemas["Dataset"];
export type Image = Schemas["Image"];
export type Page = Schemas["Page"];
export type Job = Schemas["Job"];
export type Model = Schemas["Model"];
export type Known = Schemas["Known"];
export type Gallery = Schemas["Gallery"];
export type Recipe = Schemas["Recipe"];
export type Version = Schemas["Version"];
export type Curve = Schemas["Curve"];
export type Event = Schemas["Event"];
export type Line = Schemas["Line"];
export type Upload = Schemas["Upload"];
export type Listing = Schemas["Listing"];
export type Histograms = Schemas["Histograms"];
export type Endpoint = Schemas["Endpoint"];
export type Exported = Schemas["Exported"];
export type Comparison = Schemas["Comparison"];
export type Side = Schemas["Side"];
export type Disputed = Schemas["Disputed"];
export type Marked = Schemas["Marked"];
export type About = Schemas["Overview"];
/** An error as the server keeps it. */
export type ErrorText = Partial<Schemas["ErrorText"]> & { message: string };
export type Boxed = [number, number, number, number, number];

export interface Fault {
  path: string;
  line: number | null;
  kind: string;
  severity: "error" | "warning";
  message: string;
  image?: string;
}

export interface Audit {
  ok: boolean;
  images: number;
  boxes: number;
  faults: Fault[];
  fault_count: number;
  kinds: { kind: string; count: number; severity: "error" | "warning"; remedy?: "keep_sound" | "leave_out" | "is_out" | "is_mended" | "look" }[];
  /** Kinds whose remedy was applied. */
  mended: string[];
}

export interface Found {
  width: number;
  height: number;
  boxes: { class: number; name: string; score: number; xyxy: [number, number, number, number] }[];
  /** Of a classifier, instead of boxes. */
  top5?: { class: number; name: string; score: number }[];
}

export class Problem extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint: string | null,
  ) {
    super(message);
  }
}

export async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const raw = body instanceof Blob;
  const response = await fetch(path, {
    method,
    headers: body === undefined || raw ? {} : { "content-type": "application/json" },
    body: body === undefined ? undefined : raw ? body : JSON.stringify(body),
  });
  if (response.ok) return (await response.json()) as T;
  const text = await response.text();
  try {
    const problem = JSON.parse(text) as { message: string; hint: string | null };
    throw new Problem(response.status, problem.message, problem.hint);
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem(response.status, text || response.statusText, null);
  }
}

export const get = <T>(path: string) => ask<T>("GET", path);
export const post = <T>(path: string, body: unknown = {}) => ask<T>("POST", path, body);
export const patch = <T>(path: string, body: unknown) => ask<T>("PATCH", path, body);
export const put = <T>(path: string, body: unknown) => ask<T>("PUT", path, body);
export const remove = (path: string) => ask<{ done: boolean }>("DELETE", path);

const PIECE = 8 << 20;

/** Sends a file piece by piece; after a broken connection it goes on where the server says. */
export async function upload(file: Blob, name: string, tell: (share: number) => void): Promise<string> {
  const begun = await post<Upload>("/api/uploads", { name, size: file.size });
  let offset = 0;
  let failures = 0;
  while (offset < file.size) {
    try {
      const piece = file.slice(offset, offset + PIECE);
      offset = (await ask<Upload>("PATCH", `/api/uploads/${begun.id}?offset=${offset}`, piece)).received;
      failures = 0;
      tell(offset / file.size);
    } catch (error) {
      if (++failures > 5) throw error;
      await new Promise((done) => setTimeout(done, 500 * failures));
      offset = (await get<Upload>(`/api/uploads/${begun.id}`)).received;
    }
  }
  return begun.id;
}
