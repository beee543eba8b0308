// A dropped folder becomes a zip here in the browser, so that it travels as one file.
import { Zip, ZipPassThrough } from "fflate";

export interface Entry {
  path: string;
  file: File;
}

/** Files of what was dropped, with their paths. */
export async function dropped(transfer: DataTransfer): Promise<Entry[]> {
  const tops = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const found: Entry[] = [];
  const walk = async (entry: FileSystemEntry): Promise<void> => {
    if (entry.name.startsWith(".")) return;
    if (entry.isFile) {
      const file = await new Promise<File>((done, fail) => (entry as FileSystemFileEntry).file(done, fail));
      found.push({ path: entry.fullPath.replace(/^\//, ""), file });
      return;
    }
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    for (;;) {
      const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
      if (!some.length) break;
      for (const child of some) await walk(child);
    }
  };
  for (const top of tops) await walk(top);
  return found;
}

/** Pictures are compressed already: the files are stored as they are. */
export async function pack(entries: Entry[], tell: (done: number) => void): Promise<Blob> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let failed: Error | null = null;
  const zip = new Zip((error, chunk) => {
    if (error) failed = error;
    else parts.push(chunk as Uint8Array<ArrayBuffer>);
  });
  let done = 0;
  for (const { path, file } of entries) {
    const entry = new ZipPassThrough(path);
    zip.add(entry);
    entry.push(new Uint8Array(await file.arrayBuffer()), true);
    if (failed) throw failed;
    tell(++done);
  }
  zip.end();
  return new Blob(parts, { type: "application/zip" });
}
