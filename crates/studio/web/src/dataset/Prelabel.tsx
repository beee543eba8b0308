// A model draws the first boxes of a data set.
import { useState } from "preact/hooks";
import { type Dataset, type ErrorText, type Gallery, post, remove } from "../api/client";
import { useData, useEvents } from "../api/live";
import { t } from "../i18n";
import { Act, Dialog, Meter, Trouble } from "../ui";

/** A model draws the first boxes on all pictures that nobody has labelled. */
export function Prelabel({ set, close }: { set: Dataset; close: () => void }) {
  const models = useData<Gallery>("/api/models").data?.models.filter((model) => model.about.family && model.about.classes?.some((name) => set.classes.includes(name)));
  const [by, choose] = useState<number>();
  const [conf, setConf] = useState(40);
  const model = by ?? models?.[0]?.id;
  return (
    <Dialog title={t("prelabel")} close={close}>
      <p>{t("prelabelText")}</p>
      {models?.length === 0 && <p>{t("noModel")}</p>}
      {model !== undefined && (
        <>
          <label>
            {t("suggestBy")}
            <select value={model} onChange={(e) => choose(+e.currentTarget.value)}>
              {models!.map((model) => (
                <option key={model.id} value={model.id}>
                  {model.name}
                </option>
              ))}
            </select>
          </label>
          <label>
            {t("confidence")}: {conf} %
            <input type="range" min={5} max={95} value={conf} onInput={(e) => setConf(+e.currentTarget.value)} />
          </label>
          <Act
            class="main"
            act={async () => {
              await post(`/api/datasets/${set.id}/prelabel`, { model, conf: conf / 100 });
              close();
            }}
          >
            {t("prelabel")}
          </Act>
        </>
      )}
    </Dialog>
  );
}

/** How far that is. */
export function Prelabelling({ set }: { set: Dataset }) {
  const [at, tell] = useState<{ done: number; total: number }>();
  const [failed, fail] = useState<ErrorText | null>();
  useEvents((event) => {
    if (event.type === "dataset" && event.dataset === set.id) tell(event.stage === "prelabel" ? event : undefined);
    if (event.type === "prelabelled" && event.dataset === set.id) fail(event.error);
  });
  return (
    <>
      <Trouble of={failed} />
      {at && (
        <div class="reading" role="status">
          <span>{t("stageprelabel", at)}</span>
          <Meter share={at.total ? at.done / at.total : null} label={t("stageprelabel", at)} />
          <Act class="quiet" act={() => remove(`/api/datasets/${set.id}/prelabel`)}>
            {t("stop")}
          </Act>
        </div>
      )}
    </>
  );
}
