// Models on the same validation pictures: figures with their intervals, confusion matrices, and where they disagree.
import { useState } from "preact/hooks";
import { type Comparison, type Disputed, type Job, type Marked, type Side, type Version, post } from "../api/client";
import { useData } from "../api/live";
import { number, percent, t } from "../i18n";
import { Act, Badge, Card, Meter, Trouble } from "../ui";
import { hue } from "./colours";

interface Interval {
  low: number;
  high: number;
}
interface Metrics {
  map50?: number;
  map50_95?: number;
  precision?: number;
  recall?: number;
  top1?: number;
  top5?: number;
  balanced_accuracy?: number;
  images: number;
  intervals?: Record<string, Interval | null>;
  confusion: { classes: number; counts: number[] } | number[][];
}

/** Larger matrices say nothing to the eye. */
const CLASSES = 24;

export function SideBySide({ jobs }: { jobs: Job[] }) {
  const ready = jobs.filter((job) => job.result_model && job.data);
  const [chosen, choose] = useState<[number?, number?]>([]);
  const one = ready.find((job) => job.result_model === chosen[0]) ?? ready[0];
  const other = ready.find((job) => job.result_model === chosen[1] && job !== one) ?? ready.find((job) => job !== one);
  const set = one?.data?.dataset;
  const versions = useData<{ versions: Version[] }>(set ? `/api/datasets/${set}/versions` : null).data?.versions ?? [];
  const [version, setVersion] = useState<number>();
  const at = versions.find((one) => one.id === version) ?? versions[0];
  const models = one && other ? [one.result_model!, other.result_model!] : [];
  const { data, error, reload } = useData<Comparison>(
    at && models.length ? `/api/comparisons?models=${models.join(",")}&version=${at.id}` : null,
    (e) => e.type === "evaluation" && models.includes(e.model),
  );
  if (!one || !other) return null;
  const picker = (which: 0 | 1, now: Job) => (
    <label>
      {t(which ? "modelB" : "modelA")}
      <select
        value={now.result_model!}
        onChange={(e) => choose(which ? [one.result_model!, +e.currentTarget.value] : [+e.currentTarget.value, other.result_model!])}
      >
        {ready.map((job) => (
          <option key={job.id} value={job.result_model!}>
            {job.name}
          </option>
        ))}
      </select>
    </label>
  );
  const sides = data?.sides ?? [];
  const done = sides.length > 0 && sides.every((side) => side.state === "done");
  const going = sides.some((side) => side.state === "running");
  return (
    <Card class="sides">
      <h2>{t("samePictures")}</h2>
      <p class="soft">{t("samePicturesText")}</p>
      <div class="three">
        {picker(0, one)}
        {picker(1, other)}
        <label>
          {t("tabVersions")}
          <select value={at?.id} onChange={(e) => setVersion(+e.currentTarget.value)}>
            {versions.map((version) => (
              <option key={version.id} value={version.id}>
                {one.data!.name}, {t("version", { n: version.number })}
              </option>
            ))}
          </select>
        </label>
      </div>
      <Trouble of={error} />
      {!done && !going && at && (
        <Act
          class="main"
          act={async () => {
            await post("/api/comparisons", { models, version: at.id });
            reload();
          }}
        >
          {t("measure")}
        </Act>
      )}
      {going && (
        <div role="status">
          <p class="soft">{t("measuring")}</p>
          <Meter share={null} label={t("measuring")} />
        </div>
      )}
      {sides.map((side) => (
        <Trouble key={side.model} of={side.error} whose={side.name} />
      ))}
      {done && (
        <>
          <Figures sides={sides} />
          <div class="two">
            {sides.map((side) => (
              <Confusion key={side.model} side={side} />
            ))}
          </div>
          <h3>{t("disagree", { n: data!.disputed })}</h3>
          {data!.pictures.some(({ label }) => !label) && <p class="soft">{t("disagreeText")}</p>}
          <ul class="disputes">
            {data!.pictures.map((picture) => (
              <li key={picture.name}>
                <Dispute picture={picture} version={at!.id} sides={sides} />
              </li>
            ))}
          </ul>
        </>
      )}
    </Card>
  );
}

const metricsOf = (side: Side) => side.metrics as Metrics;
const rows = [
  ["map50", "map50"],
  ["map50_95", "map50_95"],
  ["precision", "precision"],
  ["recall", "recall"],
  ["top1", "top1"],
  ["top5", "top5"],
  ["balanced_accuracy", "balanced"],
] as const;

function Figures({ sides }: { sides: Side[] }) {
  const shown = rows.filter(([key]) => typeof metricsOf(sides[0]!)[key] === "number");
  return (
    <div class="scroll" tabIndex={0}>
      <table class="table">
        <thead>
          <tr>
            <th>{t("figure")}</th>
            {sides.map((side) => (
              <th key={side.model} class="number">
                {side.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {shown.map(([key, name]) => (
            <tr key={key}>
              <th scope="row">{t(name)}</th>
              {sides.map((side) => {
                const interval = metricsOf(side).intervals?.[key];
                return (
                  <td key={side.model} class="number">
                    {percent(metricsOf(side)[key])}
                    {interval && <div class="soft">{t("interval", { low: percent(interval.low), high: percent(interval.high) })}</div>}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Confusion({ side }: { side: Side }) {
  const { confusion } = metricsOf(side);
  const detects = !Array.isArray(confusion);
  const size = detects ? confusion.classes + 1 : confusion.length;
  const at = (predicted: number, truth: number) => (detects ? confusion.counts[predicted * size + truth]! : confusion[predicted]![truth]!);
  const name = (i: number) => (detects && i === size - 1 ? t("background") : (side.classes[i] ?? String(i)));
  const all = Array.from({ length: size }, (_, i) => i);
  const sums = all.map((truth) => all.reduce((sum, predicted) => sum + at(predicted, truth), 0));
  return (
    <figure class="confusion">
      <figcaption>
        {side.name}: {t("confusion")}
      </figcaption>
      {size > CLASSES ? (
        <p class="soft">{t("manyClasses", { n: size })}</p>
      ) : (
        <div class="scroll" tabIndex={0}>
          <table>
            <thead>
              <tr>
                <th>{t("confusionCorner")}</th>
                {all.map((truth) => (
                  <th key={truth} scope="col">
                    {name(truth)}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {all.map((predicted) => (
                <tr key={predicted}>
                  <th scope="row">{name(predicted)}</th>
                  {all.map((truth) => {
                    const share = sums[truth] ? at(predicted, truth) / sums[truth]! : 0;
                    return (
                      <td key={truth} style={{ "--share": `${Math.round(share * 60)}%` }} title={percent(share)}>
                        {detects && predicted === size - 1 && truth === size - 1 ? "" : number(at(predicted, truth))}
                      </td>
                    );
                  })}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </figure>
  );
}

function Dispute({ picture, version, sides }: { picture: Disputed; version: number; sides: Side[] }) {
  const address = `/api/versions/${version}/pictures/${encodeURIComponent(picture.name)}`;
  return (
    <>
      <p class="row between">
        <strong class="name">{picture.name}</strong>
        <Badge kind="plain">{picture.label ? t("labelledAs", { name: picture.label.name }) : t("boxesDiffer", { n: picture.differences })}</Badge>
      </p>
      <div class="two">
        {picture.said.map((said, i) => (
          <figure key={i}>
            <div class="overlaid">
              <img src={address} alt={t("imageAlt", { name: picture.name })} loading="lazy" />
              <svg class="over" viewBox={`0 0 ${picture.width} ${picture.height}`} aria-hidden="true">
                <Rects marks={picture.labels} class="truth" />
                <Rects marks={said.shared} />
                <Rects marks={said.alone} class="alone" />
              </svg>
            </div>
            <figcaption>
              {sides[i]!.name}:{" "}
              {said.top.length > 0
                ? said.top
                    .slice(0, 2)
                    .map(({ name, score }) => `${name} ${percent(score)}`)
                    .join(", ")
                : t("aloneHas", { n: said.alone.length, shared: said.shared.length })}
            </figcaption>
          </figure>
        ))}
      </div>
    </>
  );
}

function Rects({ marks, class: kind }: { marks: Marked[]; class?: string }) {
  return (
    <>
      {marks.map(({ class: number, xyxy }, i) => {
        const [x1, y1, x2, y2] = xyxy as unknown as [number, number, number, number];
        return <rect key={i} class={kind} x={x1} y={y1} width={x2 - x1} height={y2 - y1} style={kind === "truth" ? undefined : { stroke: hue(number) }} />;
      })}
    </>
  );
}
