// A box by its corners, as fractions of the picture's sides.
import type { Boxed } from "../api/client";

export interface Rect {
  class: number;
  x1: number;
  y1: number;
  x2: number;
  y2: number;
}

export const from = ([number, cx, cy, w, h]: Boxed): Rect => ({
  class: number,
  x1: cx - w / 2,
  y1: cy - h / 2,
  x2: cx + w / 2,
  y2: cy + h / 2,
});

export const into = ({ class: number, x1, y1, x2, y2 }: Rect): Boxed => [number, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1];

const unit = (value: number) => Math.min(1, Math.max(0, value));

/** Corners in order and inside the picture. */
export const tidy = (box: Rect): Rect => ({
  ...box,
  x1: unit(Math.min(box.x1, box.x2)),
  y1: unit(Math.min(box.y1, box.y2)),
  x2: unit(Math.max(box.x1, box.x2)),
  y2: unit(Math.max(box.y1, box.y2)),
});

/** Moved, and kept whole inside the picture. */
export function moved(box: Rect, dx: number, dy: number): Rect {
  const x = Math.min(Math.max(dx, -box.x1), 1 - box.x2);
  const y = Math.min(Math.max(dy, -box.y1), 1 - box.y2);
  return { ...box, x1: box.x1 + x, x2: box.x2 + x, y1: box.y1 + y, y2: box.y2 + y };
}

/** The right and lower edge moved by so much, never to nothing. */
export function resized(box: Rect, dx: number, dy: number, least: [number, number]): Rect {
  return {
    ...box,
    x2: Math.min(1, Math.max(box.x1 + least[0], box.x2 + dx)),
    y2: Math.min(1, Math.max(box.y1 + least[1], box.y2 + dy)),
  };
}
