import { type Dataset, type Event } from "../api/client";
import { useEvents } from "../api/live";
import { useState } from "preact/hooks";
import { has, t } from "../i18n";
import { Badge, Meter } from "../ui";

/** How far the reading of a data set is. */
export function Reading({ dataset }: { dataset: Dataset }) {
  const [told, tell] = useState<Extract<Event, { type: "dataset" }>>();
  useEvents((event) => {
    if (event.type === "dataset" && event.dataset === dataset.id) tell(event.stage ? event : undefined);
  });
  if (dataset.state === "failed" || (dataset.state === "ready" && dataset.checked)) return null;
  const stage = told ? `stage${told.stage}` : "";
  const words = has(stage) ? t(stage, { done: told!.done, total: told!.total }) : t(dataset.state === "importing" ? "importing" : "checking");
  return (
    <div class="reading" role="status">
      <span>{words}</span>
      <Meter share={told && told.total > 0 ? told.done / told.total : null} label={words} />
    </div>
  );
}

export function DatasetBadge({ dataset }: { dataset: Dataset }) {
  if (dataset.state === "importing") return <Badge kind="busy">{t("importing")}</Badge>;
  if (dataset.state === "failed") return <Badge kind="bad">{t("failed")}</Badge>;
  return dataset.checked ? null : <Badge kind="busy">{t("checking")}</Badge>;
}

export const imagesOf = (dataset: Dataset) => dataset.splits.reduce((sum, split) => sum + split.images, 0);
export const boxesOf = (dataset: Dataset) => dataset.splits.reduce((sum, split) => sum + split.boxes, 0);
