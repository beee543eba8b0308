// Thousands of pictures, of which only those in view exist: pages of them are loaded as they come into view.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { type Image, type Page, get } from "../api/client";
import { t } from "../i18n";
import { Trouble } from "../ui";
import { Icon } from "../ui/Icon";
import { Boxes } from "./Boxes";

const PAGE = 100;
const LEAST = 150;
const GAP = 10;
const BELOW = 30;
/** Rows beyond the view that exist already. */
const MARGIN = 2;

export function Grid({ dataset, query, revision, boxes, classes }: { dataset: number; query: string; revision: number; boxes: boolean; classes?: string[] | undefined }) {
  const box = useRef<HTMLDivElement>(null);
  const [view, see] = useState({ width: 0, top: 0, height: 800 });
  const [total, setTotal] = useState<number>();
  const [, again] = useState(0);
  const [error, setError] = useState<Error>();
  const pages = useRef(new Map<number, Image[] | "loading">());
  const key = `${dataset}?${query}`;
  const shown = useRef(key);

  useLayoutEffect(() => {
    const look = () => {
      const here = box.current?.getBoundingClientRect();
      if (here) see({ width: here.width, top: -here.top, height: window.innerHeight });
    };
    look();
    window.addEventListener("scroll", look, { passive: true });
    window.addEventListener("resize", look);
    return () => {
      window.removeEventListener("scroll", look);
      window.removeEventListener("resize", look);
    };
  }, []);

  useEffect(() => {
    if (shown.current !== key) setTotal(undefined);
    shown.current = key;
    pages.current = new Map();
    load(0);
  }, [key, revision]);

  const load = (page: number) => {
    const known = pages.current;
    if (known.has(page)) return;
    known.set(page, "loading");
    get<Page>(`/api/datasets/${dataset}/images?${query}&offset=${page * PAGE}&limit=${PAGE}`).then(
      (answer) => {
        if (known !== pages.current) return;
        known.set(page, answer.images as Image[]);
        setTotal(answer.total);
        setError(undefined);
        again((n) => n + 1);
      },
      (problem: Error) => {
        known.delete(page);
        if (known === pages.current) setError(problem);
      },
    );
  };

  const columns = Math.max(2, Math.floor((view.width + GAP) / (LEAST + GAP)));
  const side = (view.width - GAP * (columns - 1)) / columns;
  const step = side + BELOW + GAP;
  const rows = Math.ceil((total ?? 0) / columns);
  const first = Math.max(0, Math.floor(view.top / step) - MARGIN);
  const last = Math.min(rows, Math.ceil((view.top + view.height) / step) + MARGIN);

  const tiles = [];
  if (total !== undefined && view.width > 0) {
    for (let i = first * columns; i < Math.min(total, last * columns); i++) {
      const page = Math.floor(i / PAGE);
      load(page);
      const loaded = pages.current.get(page);
      const image = loaded && loaded !== "loading" ? loaded[i % PAGE] : undefined;
      const place = { left: (i % columns) * (side + GAP), top: Math.floor(i / columns) * step, width: side, height: side + BELOW };
      tiles.push(<Tile key={i} image={image} boxes={boxes} classes={classes} place={place} side={side} />);
    }
  }
  return (
    <>
      <Trouble of={error} />
      {total === 0 && <p>{t("noMatch")}</p>}
      <div class="grid" ref={box} style={{ height: Math.max(rows * step, 1) }} role="list" aria-label={t("images", { n: total ?? 0 })}>
        {tiles}
      </div>
    </>
  );
}

function Tile({
  image,
  boxes,
  classes,
  place,
  side,
}: {
  image: Image | undefined;
  boxes: boolean;
  /** Of a data set whose pictures have one class each: its names. */
  classes: string[] | undefined;
  place: Record<string, number>;
  side: number;
}) {
  if (!image) return <div class="tile" style={place} />;
  const scale = Math.min(side / image.width, side / image.height);
  return (
    <div class="tile" style={place} role="listitem">
      <Link href={`/data/${image.dataset}/image/${image.id}`}>
        <span class="picture" style={{ width: side, height: side }}>
          <span class="fit" style={{ width: image.width * scale, height: image.height * scale }}>
            <img src={`/api/images/${image.id}/small`} alt={t("imageAlt", { name: image.name })} decoding="async" />
            {boxes && <Boxes boxes={image.boxes as never} width={image.width} height={image.height} />}
          </span>
        </span>
        <span class="under">
          <span class="name">{image.name}</span>
          {image.faults > 0 && <Icon name="warn" />}
          <span class="count">{classes ? (image.boxes.length ? classes[(image.boxes[0] as unknown as number[])[0]!] : t("unlabelled")) : image.boxes.length}</span>
        </span>
      </Link>
    </div>
  );
}
