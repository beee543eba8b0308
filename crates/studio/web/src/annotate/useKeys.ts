import { useEffect, useRef } from "preact/hooks";
import { moved, resized } from "./rect";
import type { Boxes } from "./useBoxes";

export interface Desk {
  boxes: Boxes;
  chosen: number | null;
  choose: (i: number | null) => void;
  relabel: (number: number) => void;
  /** The class of new boxes. */
  number: number;
  /** The picture's sides in pixels. */
  size: [number, number];
  previous: () => void;
  next: () => void;
  suggest: () => void;
}

const arrows: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function useKeys(desk: Desk) {
  const current = useRef(desk);
  current.current = desk;
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const at = event.target as HTMLElement;
      // Fields and open menus keep their own keys.
      if (["INPUT", "SELECT", "TEXTAREA"].includes(at.tagName)) return;
      if (act(current.current, event)) event.preventDefault();
    };
    window.addEventListener("keydown", press);
    return () => window.removeEventListener("keydown", press);
  }, []);
}

/** Does what the key says; false for a key that says nothing here. */
function act(desk: Desk, event: KeyboardEvent): boolean {
  const { boxes, chosen, choose, size } = desk;
  const pixel: [number, number] = [1 / size[0], 1 / size[1]];
  const key = event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key === "z" && !event.shiftKey) boxes.undo();
    else if (key === "y" || (key.toLowerCase() === "z" && event.shiftKey)) boxes.redo();
    else return false;
    return true;
  }
  const arrow = arrows[key];
  if (arrow && chosen !== null) {
    const by = event.shiftKey ? 10 : 1;
    const [dx, dy] = [arrow[0] * by * pixel[0], arrow[1] * by * pixel[1]];
    boxes.change((old) =>
      old.map((box, i) => (i !== chosen ? box : event.altKey ? resized(box, dx, dy, pixel) : moved(box, dx, dy))),
    );
    return true;
  }
  if (event.altKey) return false;
  if (key === "Tab" && boxes.boxes.length > 0 && (event.target as HTMLElement).closest(".canvas, main, body") && (chosen !== null || (event.target as HTMLElement).closest(".canvas"))) {
    const n = boxes.boxes.length;
    const next = chosen === null ? (event.shiftKey ? n - 1 : 0) : chosen + (event.shiftKey ? -1 : 1);
    // Past the last box the focus moves on as everywhere else: nobody is held here.
    choose(next < 0 || next >= n ? null : next);
    return next >= 0 && next < n;
  }
  if (/^[1-9]$/.test(key)) {
    desk.relabel(+key - 1);
    return true;
  }
  switch (key) {
    case "n":
    case "N": {
      boxes.change((old) => [...old, { class: desk.number, x1: 0.4, y1: 0.4, x2: 0.6, y2: 0.6 }]);
      choose(boxes.boxes.length);
      return true;
    }
    case "Delete":
    case "Backspace":
      if (chosen === null) return false;
      boxes.change((old) => old.filter((_, i) => i !== chosen));
      choose(null);
      return true;
    case "Escape":
      choose(null);
      return true;
    case "[":
      desk.previous();
      return true;
    case "]":
      desk.next();
      return true;
    case "p":
    case "P":
      desk.suggest();
      return true;
    default:
      return false;
  }
}
