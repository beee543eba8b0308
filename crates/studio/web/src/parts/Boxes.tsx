// Boxes over a picture, drawn to the picture's own size.
import { hue } from "./colours";
import type { Boxed } from "../api/client";

export function Boxes({ boxes, width, height }: { boxes: Boxed[]; width: number; height: number }) {
  return (
    <svg class="over" viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
      {boxes.map(([number, cx, cy, w, h], i) => (
        <rect
          key={i}
          x={(cx - w / 2) * width}
          y={(cy - h / 2) * height}
          width={w * width}
          height={h * height}
          style={{ stroke: hue(number) }}
        />
      ))}
    </svg>
  );
}
