import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { type Job } from "../api/client";
import { useEvents } from "../api/live";
import { moment, percent, t } from "../i18n";
import { Badge, Meter } from "../ui";

const kinds = { queued: "plain", running: "busy", stopping: "busy", stopped: "warn", done: "good", failed: "bad" } as const;

export function StateBadge({ job }: { job: Job }) {
  return <Badge kind={kinds[job.state]}>{t(`state_${job.state}`)}</Badge>;
}

export function RunRow({ job, before }: { job: Job; before?: ComponentChildren }) {
  const [live, set] = useState<number>();
  useEvents((event) => {
    if (event.type !== "progress" || event.job !== job.id) return;
    const line = event.line;
    if (line.type === "step") set((line.epoch - 1 + line.step / line.steps) / line.epochs);
    if (line.type === "epoch") set(line.epoch / line.epochs);
  });
  const going = job.state === "running" || job.state === "stopping";
  return (
    <li class="run">
      {before}
      <Link href={`/runs/${job.id}`}>
        <span class="what">
          <strong class="name">{job.name}</strong>
          <span class="soft">
            {job.model_name} · {job.data?.name ?? "–"} · {moment(job.created)}
          </span>
        </span>
        {going && <Meter share={live ?? job.epochs_done / job.epochs} label={t("state_running")} />}
        <span class="figure">{percent(job.best)}</span>
        <StateBadge job={job} />
      </Link>
    </li>
  );
}
