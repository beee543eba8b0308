import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Image } from "../api/client";
import { t } from "../i18n";
import { hue } from "../parts/colours";
import { type Rect, moved, tidy } from "./rect";

type Drag =
  | { kind: "draw"; x: number; y: number; box: Rect }
  | { kind: "move"; i: number; x: number; y: number; start: Rect; begun: boolean }
  | { kind: "size"; i: number; corner: Corner; start: Rect; begun: boolean };
type Corner = "nw" | "ne" | "sw" | "se";
const corners: Corner[] = ["nw", "ne", "sw", "se"];

/** Smallest box that a drag makes, in pixels of the screen: less is a click. */
const LEAST = 4;

export function Canvas({
  image,
  boxes,
  chosen,
  choose,
  change,
  number,
  classes,
}: {
  image: Image;
  boxes: Rect[];
  chosen: number | null;
  choose: (i: number | null) => void;
  change: (how: (old: Rect[]) => Rect[], rough?: boolean) => void;
  number: number;
  classes: string[];
}) {
  const svg = useRef<SVGSVGElement>(null);
  const drag = useRef<Drag>();
  const [drawn, draw] = useState<Rect>();
  const { width, height } = image;

  const at = (event: PointerEvent) => {
    const here = svg.current!.getBoundingClientRect();
    return { x: (event.clientX - here.left) / here.width, y: (event.clientY - here.top) / here.height, scale: here.width };
  };
  const grab = (event: PointerEvent, next: Drag) => {
    event.stopPropagation();
    svg.current!.setPointerCapture(event.pointerId);
    drag.current = next;
  };
  const down = (event: JSX.TargetedPointerEvent<SVGSVGElement>) => {
    if (event.button !== 0) return;
    const { x, y } = at(event);
    choose(null);
    grab(event, { kind: "draw", x, y, box: { class: number, x1: x, y1: y, x2: x, y2: y } });
  };
  const put = (i: number, box: Rect, begun: boolean) => change((old) => old.map((one, j) => (j === i ? box : one)), begun);
  const move = (event: JSX.TargetedPointerEvent<SVGSVGElement>) => {
    const now = drag.current;
    if (!now) return;
    const { x, y } = at(event);
    if (now.kind === "draw") {
      now.box = tidy({ class: number, x1: now.x, y1: now.y, x2: x, y2: y });
      draw(now.box);
    } else if (now.kind === "move") {
      put(now.i, moved(now.start, x - now.x, y - now.y), now.begun);
      now.begun = true;
    } else {
      const box = { ...now.start };
      if (now.corner.endsWith("w")) box.x1 = x;
      else box.x2 = x;
      if (now.corner.startsWith("n")) box.y1 = y;
      else box.y2 = y;
      const next = tidy(box);
      if (next.x2 - next.x1 > 1 / width && next.y2 - next.y1 > 1 / height) {
        put(now.i, next, now.begun);
        now.begun = true;
      }
    }
  };
  const up = (event: JSX.TargetedPointerEvent<SVGSVGElement>) => {
    const now = drag.current;
    drag.current = undefined;
    draw(undefined);
    if (now?.kind !== "draw") return;
    const { scale } = at(event);
    const least = LEAST / scale;
    if (now.box.x2 - now.box.x1 > least && (now.box.y2 - now.box.y1) * (height / width) > least) {
      change((old) => [...old, now.box]);
      choose(boxes.length);
    }
  };
  const rect = (box: Rect) => ({
    x: box.x1 * width,
    y: box.y1 * height,
    width: (box.x2 - box.x1) * width,
    height: (box.y2 - box.y1) * height,
  });
  const handle = Math.max(width, height) / 110;
  return (
    <div class="canvas" tabIndex={0} aria-label={t("imageAlt", { name: image.name })}>
      <div class="paper" style={{ aspectRatio: `${width} / ${height}`, maxWidth: `calc((100vh - 150px) * ${width / height})` }}>
        <img src={`/api/images/${image.id}/picture`} alt={t("imageAlt", { name: image.name })} draggable={false} />
        <svg ref={svg} viewBox={`0 0 ${width} ${height}`} onPointerDown={down} onPointerMove={move} onPointerUp={up}>
          {boxes.map((box, i) => (
            <rect
              key={i}
              {...rect(box)}
              class={i === chosen ? "box chosen" : "box"}
              style={{ stroke: hue(box.class), color: hue(box.class) }}
              onPointerDown={(event) => {
                choose(i);
                const { x, y } = at(event);
                grab(event, { kind: "move", i, x, y, start: box, begun: false });
              }}
            >
              <title>{t("boxOf", { n: i + 1, name: classes[box.class] ?? String(box.class) })}</title>
            </rect>
          ))}
          {chosen !== null &&
            boxes[chosen] &&
            corners.map((corner) => {
              const box = boxes[chosen]!;
              return (
                <circle
                  key={corner}
                  class={`handle ${corner}`}
                  r={handle}
                  cx={(corner.endsWith("w") ? box.x1 : box.x2) * width}
                  cy={(corner.startsWith("n") ? box.y1 : box.y2) * height}
                  style={{ fill: hue(box.class) }}
                  onPointerDown={(event) => grab(event, { kind: "size", i: chosen, corner, start: box, begun: false })}
                />
              );
            })}
          {drawn && <rect {...rect(drawn)} class="box chosen" style={{ stroke: hue(number), color: hue(number) }} />}
        </svg>
      </div>
    </div>
  );
}
