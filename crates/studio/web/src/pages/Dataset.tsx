// A data set: its pictures, the check's report, its charts and its versions.
import { Link, useLocation, useSearch } from "wouter-preact";
import { type Dataset, patch, remove } from "../api/client";
import { useData } from "../api/live";
import { number, t } from "../i18n";
import { Reading, boxesOf, imagesOf } from "../parts/Steps";
import { Act, Loading, Tabs, Title, Trouble } from "../ui";
import { Charts } from "../dataset/Charts";
import { Pictures } from "../dataset/Pictures";
import { Report } from "../dataset/Report";
import { Versions } from "../dataset/Versions";

type Tab = "images" | "report" | "charts" | "versions";

export function DatasetPage({ id }: { id: number }) {
  const [, go] = useLocation();
  const search = new URLSearchParams(useSearch());
  const { data: set, error, reload } = useData<Dataset>(`/api/datasets/${id}`, (e) => e.type === "dataset" && e.dataset === id && (!e.stage || e.done === 0));
  const tab = (search.get("tab") ?? "images") as Tab;
  const turn = (next: Tab) => go(`/data/${id}${next === "images" ? "" : `?tab=${next}`}`, { replace: true });
  if (error) return <Trouble of={error} />;
  if (!set) return <Loading />;
  const rename = async () => {
    const name = prompt(t("name"), set.name);
    if (name) await patch(`/api/datasets/${id}`, { name });
    reload();
  };
  return (
    <>
      <Title
        text={`${t("images", { n: imagesOf(set) })} · ${set.task === "classify" ? t("classes", { n: set.classes.length }) : t("boxes", { n: boxesOf(set) })} · ${set.classes.slice(0, 6).join(", ")}${set.classes.length > 6 ? ", …" : ""}`}
        aside={
          <>
            {set.state === "ready" && (
              // What came without labels is drawn on before it can be learnt from.
              <Link class="button main" href={set.classes.length === 0 ? `/data/${id}/image/${set.cover}` : `/train?data=${id}`}>
                {t(set.classes.length === 0 ? "annotate" : "startTraining")}
              </Link>
            )}
            <Act act={rename} class="quiet">
              {t("rename")}
            </Act>
            <Act
              class="quiet"
              sure={t("removeDataset")}
              act={async () => {
                await remove(`/api/datasets/${id}`);
                go("/data");
              }}
            >
              {t("remove")}
            </Act>
          </>
        }
      >
        {set.name}
      </Title>
      <Reading dataset={set} />
      <Trouble of={set.error} />
      {set.state === "ready" && (
        <>
          <Tabs<Tab>
            at={tab}
            go={turn}
            names={[
              { id: "images", name: "tabImages", note: number(imagesOf(set)) },
              { id: "report", name: "tabReport" },
              { id: "charts", name: "tabCharts" },
              { id: "versions", name: "tabVersions" },
            ]}
          />
          {tab === "images" && <Pictures set={set} search={search} />}
          {tab === "report" && <Report set={set} />}
          {tab === "charts" && <Charts set={set} />}
          {tab === "versions" && <Versions set={set} />}
        </>
      )}
    </>
  );
}
