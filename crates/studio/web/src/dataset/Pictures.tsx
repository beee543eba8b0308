// The pictures of a data set, chosen by part, class and state; what is done to all of them at once.
import { useState } from "preact/hooks";
import { useLocation } from "wouter-preact";
import { type Dataset } from "../api/client";
import { number, t } from "../i18n";
import { Grid } from "../parts/Grid";
import { Divide } from "./Divide";
import { Prelabel, Prelabelling } from "./Prelabel";

export function Pictures({ set, search }: { set: Dataset; search: URLSearchParams }) {
  const [, go] = useLocation();
  const [boxes, show] = useState(true);
  const [dividing, divide] = useState(false);
  const [prelabelling, prelabel] = useState(false);
  const classifies = set.task === "classify";
  const query = new URLSearchParams();
  for (const name of ["split", "class", "only"]) {
    const value = search.get(name);
    if (value) query.set(name, value);
  }
  const filter = (name: string) => (event: Event) => {
    const value = (event.currentTarget as HTMLSelectElement).value;
    if (value) query.set(name, value);
    else query.delete(name);
    go(`/data/${set.id}?${query}`, { replace: true });
  };
  return (
    <>
      <div class="row filters">
        <label>
          {t("split")}
          <select value={query.get("split") ?? ""} onChange={filter("split")}>
            <option value="">{t("all")}</option>
            {set.splits.map(({ split, images }) => (
              <option key={split} value={split}>
                {t(`${split}_split` as "train_split")} ({number(images)})
              </option>
            ))}
          </select>
        </label>
        <label>
          {t("class")}
          <select value={query.get("class") ?? ""} onChange={filter("class")}>
            <option value="">{t("all")}</option>
            {set.classes.map((name, i) => (
              <option key={i} value={i}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label>
          {t("only")}
          <select value={query.get("only") ?? ""} onChange={filter("only")}>
            <option value="">{t("all")}</option>
            <option value="faulty">{t("faulty")}</option>
            {!classifies && <option value="suggested">{t("suggestedOnly")}</option>}
            <option value="empty">{t(classifies ? "unlabelled" : "empty")}</option>
          </select>
        </label>
        {!classifies && (
        <label class="check">
          <input type="checkbox" checked={boxes} onChange={(e) => show(e.currentTarget.checked)} />
          {t("showBoxes")}
        </label>
        )}
        <button type="button" class="quiet" onClick={() => divide(true)}>
          {t("divide")}
        </button>
        {!classifies && (
          <button type="button" class="quiet" onClick={() => prelabel(true)}>
            {t("prelabel")}
          </button>
        )}
      </div>
      {set.classes.length === 0 && <p class="note">{t("noLabels")}</p>}
      <Prelabelling set={set} />
      <Grid dataset={set.id} query={query.toString()} revision={set.revision} boxes={boxes && !classifies} classes={classifies ? set.classes : undefined} />
      {prelabelling && <Prelabel set={set} close={() => prelabel(false)} />}
      {dividing && <Divide set={set} close={() => divide(false)} />}
    </>
  );
}
