// One run: where it is, its curves as they grow, its log and its pictures.
import type { ComponentChild } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { Link, useLocation } from "wouter-preact";
import { type Curve, type Job, type Line, post, remove } from "../api/client";
import { useData, useEvents } from "../api/live";
import { duration, figureName, number, percent, size, t } from "../i18n";
import { said } from "../i18n/said";
import { Chart } from "../parts/Chart";
import { StateBadge } from "../parts/RunRow";
import { Act, Card, Dialog, Facts, Loading, Meter, Title, Trouble } from "../ui";

type Step = Extract<Line, { type: "step" }>;

export function RunPage({ id }: { id: number }) {
  const [, go] = useLocation();
  const [extending, extend] = useState(false);
  const { data: job, error } = useData<Job>(`/api/jobs/${id}`, (e) => e.type === "job" && e.job === id);
  if (error) return <Trouble of={error} />;
  if (!job) return <Loading />;
  const going = job.state === "running" || job.state === "stopping";
  const tell = (what: string, body = {}) => post(`/api/jobs/${id}/${what}`, body);
  return (
    <>
      <Title
        text={`${job.model_name} · ${job.data ? `${job.data.name}, ${t("version", { n: job.data.number })}` : "–"}`}
        aside={
          <>
            {job.result_model && (
              <Link class="button main" href={`/models/${job.result_model}`}>
                {t("tryModel")}
              </Link>
            )}
            {(going || job.state === "queued") && (
              <Act act={() => tell("stop")} disabled={job.state === "stopping"}>
                {t("stop")}
              </Act>
            )}
            {job.state === "stopping" && (
              <Act class="quiet" act={() => tell("stop", { now: true })}>
                {t("stopNow")}
              </Act>
            )}
            {(job.state === "stopped" || job.state === "failed") && (
              <Act class="main" act={() => tell("resume")}>
                {t("resume")}
              </Act>
            )}
            {(job.state === "done" || job.state === "stopped") && job.epochs_done > 0 && (
              <button type="button" onClick={() => extend(true)}>
                {t("trainLonger")}
              </button>
            )}
            {!going && (
              <Act
                class="quiet"
                sure={t("removeRun")}
                act={async () => {
                  await remove(`/api/jobs/${id}`);
                  go("/runs");
                }}
              >
                {t("remove")}
              </Act>
            )}
          </>
        }
      >
        {job.name} <StateBadge job={job} />
      </Title>
      <Trouble of={job.error} />
      {extending && <Longer job={job} close={() => extend(false)} />}
      <Progress job={job} going={going} />
      {going && <Samples job={job} />}
      <Curves job={job} />
      <Drawings job={job} />
      <Log job={job} going={going} />
      <Card>
        <h2>{t("settings")}</h2>
        <Facts
          of={[
            [t("startModel"), job.model_name],
            [t("strategy"), t(job.strategy as "gentle")],
            ...job.arguments.map(([name, text]): [ComponentChild, string] => [<code>{name}</code>, text]),
          ]}
        />
        {job.attempt > 1 && <p class="soft">{t("attempts", { n: job.attempt })}</p>}
      </Card>
    </>
  );
}

/** More epochs for a run that has ended. */
function Longer({ job, close }: { job: Job; close: () => void }) {
  const [epochs, set] = useState(String(Math.max(job.epochs, job.epochs_done) + Math.max(5, Math.round(job.epochs / 2))));
  return (
    <Dialog title={t("trainLonger")} close={close}>
      <p>{t("trainLongerText", { n: job.epochs_done })}</p>
      <label>
        {t("epochsInAll")}
        <input inputMode="numeric" value={epochs} onInput={(e) => set(e.currentTarget.value)} />
      </label>
      <Act
        class="main"
        act={async () => {
          await post(`/api/jobs/${job.id}/extend`, { epochs: Math.round(Number(epochs)) || 0 });
          close();
        }}
      >
        {t("trainLonger")}
      </Act>
    </Dialog>
  );
}

/** What the model finds while it learns: the sheet that the worker draws anew every few epochs. */
function Samples({ job }: { job: Job }) {
  const [turn, again] = useState(0);
  const { data } = useData<{ names: string[] }>(`/api/jobs/${job.id}/drawings`, (e) => {
    const mine = e.type === "progress" && e.job === job.id && e.line.type === "epoch";
    if (mine) again(e.line.type === "epoch" ? e.line.epoch : 0);
    return mine;
  });
  if (!data?.names.includes("samples.jpg")) return null;
  return (
    <Card>
      <h2>{t("samples")}</h2>
      <p class="soft">{t("samplesText")}</p>
      <img class="whole samples" src={`/api/jobs/${job.id}/drawings/samples.jpg?at=${turn}`} alt={t("samples")} />
    </Card>
  );
}

function Progress({ job, going }: { job: Job; going: boolean }) {
  const [step, setStep] = useState<Step>();
  const [seen, see] = useState<{ done: number; images: number }>();
  const [warnings, warn] = useState<string[]>([]);
  useEvents((event) => {
    if (event.type !== "progress" || event.job !== job.id) return;
    const line = event.line;
    if (line.type === "step") {
      setStep(line);
      see(undefined);
    } else if (line.type === "validating") see(line.done < line.images ? line : undefined);
    else if (line.type === "warning") warn((old) => [...old.slice(-4), line.text]);
  });
  useEffect(() => {
    if (!going) setStep(undefined);
  }, [going]);
  const metrics = job.summary && typeof job.summary === "object" ? ((job.summary as { metrics?: Record<string, number> }).metrics ?? {}) : {};
  const share = step ? (step.epoch - 1 + step.step / step.steps) / step.epochs : null;
  return (
    <>
      {going && (
        <Card>
          <div class="row between">
            <strong role="status">{step ? t("epochOf", { n: step.epoch, of: step.epochs }) : t("starting")}</strong>
            {step && <span class="soft">{seen ? t("validating", { n: seen.done, of: seen.images }) : t("stepOf", { n: step.step, of: step.steps })}</span>}
          </div>
          <Meter share={share} label={t("state_running")} />
          {step && (
            <Facts
              of={[
                [t("timeLeft"), duration(step.seconds_left)],
                [t("speed"), number(step.images_per_second, 1)],
                [t("dataWait"), percent(step.data_wait)],
                [t("memory"), step.memory ? size(step.memory) : "–"],
              ]}
            />
          )}
        </Card>
      )}
      {warnings.length > 0 && (
        <Card>
          <h2>{t("warnings")}</h2>
          {warnings.map((text, i) => (
            <p key={i}>{said(text)}</p>
          ))}
        </Card>
      )}
      {job.state === "done" && typeof metrics.top1 === "number" && (
        <div class="figures">
          <Figure name={t("top1")} value={metrics.top1} text={t("top1Text")} />
          <Figure name={t("top5")} value={metrics.top5} text={t("top5Text")} />
          <Figure name={t("balanced")} value={metrics.balanced_accuracy} text={t("balancedText")} />
        </div>
      )}
      {job.state === "done" && typeof metrics.map50_95 === "number" && (
        <div class="figures">
          <Figure name={t("map50_95")} value={metrics.map50_95} text={t("mapText")} />
          <Figure name={t("map50")} value={metrics.map50} text="" />
          <Figure name={t("precision")} value={metrics.precision} text={t("precisionText")} />
          <Figure name={t("recall")} value={metrics.recall} text={t("recallText")} />
        </div>
      )}
    </>
  );
}

function Figure({ name, value, text }: { name: string; value: number | undefined; text: string }) {
  return (
    <div class="card">
      <span class="soft">{name}</span>
      <strong class="large">{percent(value)}</strong>
      <span class="soft">{text}</span>
    </div>
  );
}

function Curves({ job }: { job: Job }) {
  const { data } = useData<{ curves: Curve[] }>(
    `/api/jobs/${job.id}/curves`,
    (e) => (e.type === "progress" && e.job === job.id && e.line.type === "epoch") || (e.type === "job" && e.job === job.id),
  );
  const of = (prefix: string) =>
    data?.curves
      .filter((curve) => curve.name.startsWith(prefix))
      .map((curve) => ({ name: figureName(curve.name, prefix), epochs: curve.epochs, values: curve.values })) ?? [];
  const [losses, metrics] = useMemo(() => [of("loss/"), of("metric/")], [data]);
  if (losses.length === 0) return null;
  return (
    <div class="two">
      <Card>
        <Chart title={t("quality")} lines={metrics} max={1} />
      </Card>
      <Card>
        <Chart title={t("losses")} lines={losses} />
      </Card>
    </div>
  );
}

function Drawings({ job }: { job: Job }) {
  const { data } = useData<{ names: string[] }>(`/api/jobs/${job.id}/drawings`, (e) => e.type === "job" && e.job === job.id);
  const [large, show] = useState<string>();
  if (!data || data.names.length === 0) return null;
  const address = (name: string) => `/api/jobs/${job.id}/drawings/${encodeURIComponent(name)}`;
  return (
    <Card>
      <h2>{t("drawings")}</h2>
      <p class="soft">{t("drawingsText")}</p>
      <div class="drawings">
        {data.names.map((name) => (
          <button key={name} type="button" class="quiet" aria-pressed={name === large} onClick={() => show(name === large ? undefined : name)}>
            <img src={address(name)} alt={name.replace(/\.\w+$/, "").replaceAll("_", " ")} loading="lazy" />
            <span class="name soft">{name.replace(/\.\w+$/, "").replaceAll("_", " ")}</span>
          </button>
        ))}
      </div>
      {large && <img class="whole" src={address(large)} alt={large} />}
    </Card>
  );
}

function Log({ job, going }: { job: Job; going: boolean }) {
  const [open, turn] = useState(false);
  const { data, reload } = useData<{ text: string; cut: boolean }>(open ? `/api/jobs/${job.id}/log` : null, (e) => e.type === "job" && e.job === job.id);
  useEffect(() => {
    if (!open || !going) return;
    const timer = setInterval(reload, 3000);
    return () => clearInterval(timer);
  }, [open, going, reload]);
  return (
    <details class="card" onToggle={(e) => turn((e.currentTarget as HTMLDetailsElement).open)}>
      <summary>{t("log")}</summary>
      {data?.cut && <p class="soft">{t("logCut")}</p>}
      <pre tabIndex={0}>{data?.text}</pre>
    </details>
  );
}
