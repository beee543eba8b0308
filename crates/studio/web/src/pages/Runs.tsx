import { useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { type Job } from "../api/client";
import { useData } from "../api/live";
import { t } from "../i18n";
import { RunRow } from "../parts/RunRow";
import { Loading, Title, Trouble } from "../ui";

export function RunsPage() {
  const { data, error } = useData<{ jobs: Job[] }>("/api/jobs", (e) => e.type === "job");
  const [chosen, choose] = useState<number[]>([]);
  const turn = (id: number) => choose((old) => (old.includes(id) ? old.filter((one) => one !== id) : [...old, id]));
  return (
    <>
      <Title
        text={t("runsText")}
        aside={
          <>
            {chosen.length > 1 && (
              <Link class="button main" href={`/compare?runs=${chosen.join(",")}`}>
                {t("compareChosen", { n: chosen.length })}
              </Link>
            )}
            <Link class="button" href="/train">
              {t("startTraining")}
            </Link>
          </>
        }
      >
        {t("runs")}
      </Title>
      <Trouble of={error} />
      {!data && !error && <Loading />}
      {data?.jobs.length === 0 && <p class="soft">{t("noRuns")}</p>}
      <ul class="list">
        {data?.jobs.map((job) => (
          <RunRow
            key={job.id}
            job={job}
            before={
              <input
                type="checkbox"
                aria-label={`${t("choose")}: ${job.name}`}
                checked={chosen.includes(job.id)}
                disabled={!chosen.includes(job.id) && chosen.length >= 50}
                onChange={() => turn(job.id)}
              />
            }
          />
        ))}
      </ul>
    </>
  );
}
