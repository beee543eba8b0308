// One model: try it on a picture, take it along.
import { useEffect, useRef, useState } from "preact/hooks";
import { Link, useLocation } from "wouter-preact";
import { type Found, type Model, ask, remove } from "../api/client";
import { useData } from "../api/live";
import { percent, t } from "../i18n";
import { Exports } from "../parts/Exports";
import { Bars } from "../parts/Bars";
import { EndpointCard } from "../parts/EndpointCard";
import { hue } from "../parts/colours";
import { Act, Card, Drop, Loading, Meter, Title, Trouble } from "../ui";
import { Icon } from "../ui/Icon";
import { ModelFacts } from "./Models";

export function ModelPage({ id }: { id: number }) {
  const [, go] = useLocation();
  const { data: model, error } = useData<Model>(`/api/models/${id}`);
  if (error) return <Trouble of={error} />;
  if (!model) return <Loading />;
  return (
    <>
      <Title
        aside={
          <>
            {model.about.family && (
              <Link class="button" href={`/train?model=${id}`}>
                {t("trainFrom")}
              </Link>
            )}
            {model.job && (
              <Link class="button quiet" href={`/runs/${model.job}`}>
                {t("origin_run")}
              </Link>
            )}
            {model.origin === "upload" && (
              <Act
                class="quiet"
                sure={t("removeModel")}
                act={async () => {
                  await remove(`/api/models/${id}`);
                  go("/models");
                }}
              >
                {t("remove")}
              </Act>
            )}
          </>
        }
      >
        {model.name}
      </Title>
      {model.about.family && <Trial model={model} />}
      <Card>
        <h2>{t("deploy")}</h2>
        <div class="row">
          <a class="button" href={`/api/models/${id}/file`} download>
            <Icon name="down" />
            {model.about.format === "safetensors" ? t("weights") : (model.about.format ?? t("download"))}
          </a>
        </div>
        {model.about.family && <Exports model={model} />}
      </Card>
      {model.about.family && <EndpointCard model={model} />}
      <Card>
        <h2>{t("inspect")}</h2>
        <ModelFacts model={model} />
        {model.about.classes && (
          <details>
            <summary>{t("classes", { n: model.about.classes.length })}</summary>
            <p class="soft">{model.about.classes.join(", ")}</p>
          </details>
        )}
        <p class="soft">
          SHA-256 <code title={model.sha256}>{model.sha256.slice(0, 24)}…</code>
        </p>
      </Card>
    </>
  );
}

function Trial({ model }: { model: Model }) {
  const [picture, show] = useState<{ url: string; file: File }>();
  const [found, find] = useState<Found>();
  const [error, fail] = useState<Error>();
  const [least, set] = useState(0.25);
  const turn = useRef(0);
  useEffect(() => () => void (picture && URL.revokeObjectURL(picture.url)), [picture]);
  const take = async (what: DataTransfer | FileList) => {
    const file = (what instanceof FileList ? what : what.files)[0];
    if (!file) return;
    const mine = ++turn.current;
    show({ url: URL.createObjectURL(file), file });
    find(undefined);
    fail(undefined);
    try {
      const answer = await ask<Found>("POST", `/api/models/${model.id}/predict?conf=0.05`, file);
      if (mine === turn.current) find(answer);
    } catch (problem) {
      if (mine === turn.current) fail(problem as Error);
    }
  };
  const kept = found?.boxes?.filter((box) => box.score >= least) ?? [];
  return (
    <Card>
      <h2>{t("try")}</h2>
      <Drop take={take} accept="image/*" button={t("choosePicture")}>
        {!picture && <p class="soft">{t("dropPicture")}</p>}
        {picture && (
          <div class="trial">
            <img src={picture.url} alt={t("imageAlt", { name: picture.file.name })} />
            {found?.boxes && <Marks found={found} kept={kept} />}
          </div>
        )}
      </Drop>
      {picture && !found && !error && (
        <div role="status">
          <p>{t("trying")}</p>
          <Meter share={null} label={t("trying")} />
        </div>
      )}
      <Trouble of={error} />
      {found?.top5 && <Bars title={t("shows")} values={found.top5.map(({ name, score }) => ({ name, value: Math.round(score * 1000) / 10 }))} unit=" %" />}
      {found?.boxes && (
        <>
          <label>
            {t("confidence")}: {percent(least)}
            <input type="range" min={0.05} max={0.95} step={0.01} value={least} onInput={(e) => set(+e.currentTarget.value)} />
            <span class="soft">{t("confidenceText")}</span>
          </label>
          <p role="status" class="found" data-count={kept.length}>
            {kept.length > 0 ? t("found", { n: kept.length }) : t("foundNone")}
          </p>
          <ul class="tags">
            {Object.entries(kept.reduce<Record<string, number>>((sum, { name }) => ({ ...sum, [name]: (sum[name] ?? 0) + 1 }), {})).map(([name, n]) => (
              <li key={name}>
                <span class="dot" style={{ background: hue(kept.find((box) => box.name === name)!.class) }} />
                {name} {n > 1 && <span class="count">{n}</span>}
              </li>
            ))}
          </ul>
        </>
      )}
    </Card>
  );
}

function Marks({ found, kept }: { found: Found; kept: Found["boxes"] }) {
  const text = Math.max(found.width, found.height) / 48;
  const named = kept.length <= 40;
  return (
    <svg class="over" viewBox={`0 0 ${found.width} ${found.height}`} aria-hidden="true">
      {kept.map(({ class: number, name, score, xyxy: [x1, y1, x2, y2] }, i) => (
        <g key={i}>
          <rect x={x1} y={y1} width={x2 - x1} height={y2 - y1} style={{ stroke: hue(number) }} />
          {named && (
            <text x={x1 + text * 0.2} y={Math.max(text, y1 - text * 0.3)} font-size={text}>
              {name} {Math.round(score * 100)}
            </text>
          )}
        </g>
      ))}
    </svg>
  );
}
