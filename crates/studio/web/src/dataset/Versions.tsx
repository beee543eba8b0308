// Snapshots of a data set.
import { useState } from "preact/hooks";
import { type Dataset, type Version, post } from "../api/client";
import { useData } from "../api/live";
import { moment, number, t } from "../i18n";
import { Act, Card, Facts, Trouble } from "../ui";
import { Icon } from "../ui/Icon";

export function Versions({ set }: { set: Dataset }) {
  const { data, error, reload } = useData<{ versions: Version[] }>(`/api/datasets/${set.id}/versions`, (e) => e.type === "dataset" && e.dataset === set.id && !e.stage);
  const [note, write] = useState("");
  const latest = data?.versions[0];
  const changed = !latest || latest.revision !== set.revision;
  const noteOf = (text: string) => (text === "as imported" || text === "for training" || text === "faults mended" ? t(text) : text);
  return (
    <>
      <p class="lead">{t("versionsText")}</p>
      <Trouble of={error} />
      {data && (
        <Card>
          <p>{t(changed ? "changedSince" : "unchanged")}</p>
          <div class="row">
            <label class="grow">
              {t("note")}
              <input value={note} maxLength={200} onInput={(e) => write(e.currentTarget.value)} />
            </label>
            <Act
              class="main"
              disabled={!changed}
              act={async () => {
                await post(`/api/datasets/${set.id}/versions`, { note });
                write("");
                reload();
              }}
            >
              {t("makeVersion")}
            </Act>
          </div>
        </Card>
      )}
      <ul class="list">
        {data?.versions.map((version) => (
          <li key={version.id} class="card">
            <div class="row between">
              <strong>
                {t("version", { n: version.number })} {version.note && <span class="soft">{noteOf(version.note)}</span>}
              </strong>
              <span class="row">
                {(set.task === "classify" ? (["folders"] as const) : (["yolo", "coco"] as const)).map((form) => (
                  <a key={form} class="button" href={`/api/versions/${version.id}/export?format=${form}`} download>
                    <Icon name="down" />
                    {form === "folders" ? t("asFolders") : form.toUpperCase()}
                  </a>
                ))}
              </span>
            </div>
            <Facts
              of={[
                [t("tabImages"), number(version.images)],
                ...(set.task === "classify" ? [] : [[t("perClassShort"), number(version.boxes)] as [string, string]]),
                [t("hash"), <code title={version.hash}>{version.hash.slice(0, 16)}</code>],
                [t("made"), moment(version.created)],
              ]}
            />
          </li>
        ))}
      </ul>
    </>
  );
}
