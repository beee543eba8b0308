// An image's boxes with their history, saved as they change: a change is sent after a short pause, and at the latest
// within a second.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { type Image, put } from "../api/client";
import { type Rect, from, into } from "./rect";

const PAUSE = 300;
const LATEST = 1000;
const HISTORY = 200;

export interface Boxes {
  boxes: Rect[];
  /** One step of history; with `rough` the last step is replaced, as while dragging. */
  change: (how: (old: Rect[]) => Rect[], rough?: boolean) => void;
  undo: () => void;
  redo: () => void;
  canUndo: boolean;
  canRedo: boolean;
  saved: boolean;
  error: Error | undefined;
  flush: () => Promise<void>;
}

export function useBoxes(image: Image): Boxes {
  const past = useRef<Rect[][]>([]);
  const future = useRef<Rect[][]>([]);
  const now = useRef<Rect[]>(image.boxes.map((box) => from(box as never)));
  const revision = useRef(image.revision);
  const dirty = useRef<number>();
  const timer = useRef<number>();
  const sending = useRef<Promise<void>>(Promise.resolve());
  const [, again] = useState(0);
  const [error, fail] = useState<Error>();
  const show = () => again((n) => n + 1);

  const send = useCallback(() => {
    clearTimeout(timer.current);
    sending.current = sending.current.then(async () => {
      if (dirty.current === undefined) return;
      dirty.current = undefined;
      try {
        const boxes = now.current.map(into);
        revision.current = (await put<{ revision: number }>(`/api/images/${image.id}/boxes`, { revision: revision.current, boxes })).revision;
        fail(undefined);
      } catch (problem) {
        dirty.current ??= Date.now();
        fail(problem as Error);
      }
      show();
    });
    return sending.current;
  }, [image.id]);

  const touch = () => {
    const first = (dirty.current ??= Date.now());
    clearTimeout(timer.current);
    timer.current = window.setTimeout(send, Math.max(0, Math.min(PAUSE, first + LATEST - Date.now())));
    show();
  };

  useEffect(() => {
    const hidden = () => void (document.visibilityState === "hidden" && send());
    document.addEventListener("visibilitychange", hidden);
    return () => {
      document.removeEventListener("visibilitychange", hidden);
      void send();
    };
  }, [send]);

  const step = (take: Rect[][], give: Rect[][]) => () => {
    const next = take.pop();
    if (!next) return;
    give.push(now.current);
    now.current = next;
    touch();
  };
  return {
    boxes: now.current,
    change: (how, rough = false) => {
      const next = how(now.current);
      if (!rough) {
        past.current.push(now.current);
        if (past.current.length > HISTORY) past.current.shift();
        future.current.length = 0;
      }
      now.current = next;
      touch();
    },
    undo: step(past.current, future.current),
    redo: step(future.current, past.current),
    canUndo: past.current.length > 0,
    canRedo: future.current.length > 0,
    saved: dirty.current === undefined,
    error,
    flush: send,
  };
}
