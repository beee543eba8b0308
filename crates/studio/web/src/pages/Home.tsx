import { Link, useLocation } from "wouter-preact";
import { type About, type Dataset, type Gallery, type Job, post } from "../api/client";
import { useData } from "../api/live";
import { t } from "../i18n";
import { RunRow } from "../parts/RunRow";
import { Act, Title } from "../ui";
import { Icon } from "../ui/Icon";

export function Home() {
  const [, go] = useLocation();
  const about = useData<About>("/api/about", (e) => e.type !== "progress").data;
  const sets = useData<{ datasets: Dataset[] }>("/api/datasets", (e) => e.type === "dataset" && !e.stage).data?.datasets;
  const jobs = useData<{ jobs: Job[] }>("/api/jobs", (e) => e.type === "job").data?.jobs;
  const models = useData<Gallery>("/api/models", (e) => e.type === "models").data?.models;
  const ready = sets?.find((set) => set.state === "ready");
  const trained = models?.find((model) => model.origin === "run");
  const at = !ready ? 1 : !trained ? 2 : 3;
  const sample = async () => {
    const made = await post<{ id: number }>("/api/datasets", { name: t("sampleName"), from: { sample: true } });
    go(`/data/${made.id}`);
  };
  return (
    <>
      <Title text={t("welcomeText")}>{t("welcome")}</Title>
      <ol class="steps">
        <li class={at === 1 ? "now" : ""}>
          <Number n={1} done={!!ready} />
          <h2>{t("step1")}</h2>
          <p>{t("step1Text")}</p>
          <div class="row">
            {about?.sample !== false && (
              <Act class={at === 1 ? "main" : ""} act={sample}>
                {t("useSample")}
              </Act>
            )}
            <Link class="button" href="/data">
              {t("bringOwn")}
            </Link>
          </div>
          {about?.sample === false && <p class="soft">{t("sampleMissing")}</p>}
        </li>
        <li class={at === 2 ? "now" : ""}>
          <Number n={2} done={!!trained} />
          <h2>{t("step2")}</h2>
          <p>{t("step2Text")}</p>
          <div class="row">
            <Link class={`button ${at === 2 ? "main" : ""}`} href={ready ? `/train?data=${ready.id}` : "/train"}>
              {t("startTraining")}
            </Link>
          </div>
        </li>
        <li class={at === 3 ? "now" : ""}>
          <Number n={3} done={false} />
          <h2>{t("step3")}</h2>
          <p>{t("step3Text")}</p>
          <div class="row">
            <Link class={`button ${at === 3 ? "main" : ""}`} href={trained ? `/models/${trained.id}` : "/models"}>
              {t("tryModel")}
            </Link>
          </div>
        </li>
      </ol>
      {jobs && jobs.length > 0 && (
        <>
          <h2>{t("latest")}</h2>
          <ul class="list">
            {jobs.slice(0, 5).map((job) => (
              <RunRow key={job.id} job={job} />
            ))}
          </ul>
        </>
      )}
    </>
  );
}

function Number({ n, done }: { n: number; done: boolean }) {
  return <span class={`step ${done ? "done" : ""}`}>{done ? <Icon name="check" /> : n}</span>;
}
