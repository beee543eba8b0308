import { useMemo } from "preact/hooks";
import { Link, useLocation, useSearch } from "wouter-preact";
import { type Curve, type Job } from "../api/client";
import { useData } from "../api/live";
import { figureName, number, t } from "../i18n";
import { Chart } from "../parts/Chart";
import { SideBySide } from "../parts/SideBySide";
import { lineColours } from "../parts/colours";
import { Card, Loading, Title, Trouble } from "../ui";

interface Compared {
  figure: string;
  /** All that one of the runs has. */
  figures: string[];
  runs: { job: Job; curve: Curve }[];
}

export function Compare() {
  const [, go] = useLocation();
  const search = new URLSearchParams(useSearch());
  const runs = search.get("runs") ?? "";
  const asked = search.get("figure");
  const { data, error } = useData<Compared>(
    runs ? `/api/compare?runs=${encodeURIComponent(runs)}${asked ? `&figure=${encodeURIComponent(asked)}` : ""}` : null,
    (e) => e.type === "models" || (e.type === "progress" && e.line.type === "epoch" && runs.split(",").includes(String(e.job))),
  );
  const lines = useMemo(
    () => data?.runs.map(({ job, curve }, i) => ({ name: job.name, epochs: curve.epochs, values: curve.values, colour: lineColours[i] })) ?? [],
    [data],
  );
  if (!runs) return <p>{t("chooseRuns")}</p>;
  const figure = data?.figure ?? asked ?? "";
  const names = [...new Set(data?.runs.flatMap(({ job }) => job.arguments.map(([name]) => name)) ?? [])];
  const value = (job: Job, name: string) => job.arguments.find(([one]) => one === name)?.[1] ?? "–";
  const differ = names.filter((name) => new Set(data?.runs.map(({ job }) => value(job, name))).size > 1);
  const lower = figure.startsWith("loss/") || figure === "data_wait";
  const best = (curve: Curve) => (curve.values.length === 0 ? undefined : curve.values.reduce((a, b) => (lower ? Math.min(a, b) : Math.max(a, b))));
  const digits = figure === "speed" ? 1 : 4;
  return (
    <>
      <Title
        text={t("compareText")}
        aside={
          <label class="row">
            {t("figure")}
            <select value={figure} onChange={(e) => go(`/compare?runs=${runs}&figure=${encodeURIComponent(e.currentTarget.value)}`, { replace: true })}>
              {data?.figures.map((name) => (
                <option key={name} value={name}>
                  {figureName(name)}
                </option>
              ))}
            </select>
          </label>
        }
      >
        {t("compare")}
      </Title>
      <Trouble of={error} />
      {!data && !error && <Loading />}
      {data && (
        <>
          <Card>
            <Chart title={figureName(figure)} lines={lines} max={figure.startsWith("metric/") ? 1 : undefined} />
          </Card>
          <div class="scroll">
            <table class="table">
              <thead>
                <tr>
                  <th>{t("name")}</th>
                  <th class="number">{t("best")}</th>
                  <th class="number">{t("last")}</th>
                  <th>{t("startModel")}</th>
                  <th>{t("strategy")}</th>
                  {differ.map((name) => (
                    <th key={name}>
                      <code>{name}</code>
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {data.runs.map(({ job, curve }, i) => (
                  <tr key={job.id}>
                    <td>
                      <span class="dot" style={{ background: lineColours[i] }} /> <Link href={`/runs/${job.id}`}>{job.name}</Link>
                    </td>
                    <td class="number">{best(curve) === undefined ? "–" : number(best(curve)!, digits)}</td>
                    <td class="number">{curve.values.length ? number(curve.values.at(-1)!, digits) : "–"}</td>
                    <td>{job.model_name}</td>
                    <td>{t(job.strategy as "gentle")}</td>
                    {differ.map((name) => (
                      <td key={name}>{value(job, name)}</td>
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          <SideBySide jobs={data.runs.map(({ job }) => job)} />
        </>
      )}
    </>
  );
}
