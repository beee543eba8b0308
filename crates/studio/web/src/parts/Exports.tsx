// The formats that a model is deployed in: made on demand, and compared with the model before they are handed out.
import { useState } from "preact/hooks";
import { type About, type Dataset, type Exported, type Model, post } from "../api/client";
import { useData } from "../api/live";
import { number, percent, size, t } from "../i18n";
import { Act, Meter } from "../ui";
import { Icon } from "../ui/Icon";

/** What `onsa export` says of the written file beside the model: of a detector, or of a classifier. */
interface Proof {
  images: number;
  max_score_difference: number;
  ok: boolean;
  /** Whether the pictures' labels were the truth; else what the model itself says was. */
  labelled: boolean;
  max_box_difference?: number;
  /** Share of the boxes that both find. */
  agreement?: number;
  map50_95_model?: number;
  map50_95_export?: number;
  /** Share of the pictures that get the same class. */
  top1_agreement?: number;
  top1_model?: number;
  top1_export?: number;
}

const formats = ["onnx", "onnx-whole", "torch", "safetensors", "tflite", "tflite-int8"] as const;

export function Exports({ model }: { model: Model }) {
  const possible = useData<About>("/api/about").data?.exports;
  const { data, reload } = useData<{ exports: Exported[] }>(possible ? `/api/models/${model.id}/exports` : null);
  // A run's model is proved on what it was trained for; of another one only a person knows what it is for.
  const sets = useData<{ datasets: Dataset[] }>(possible && !model.job ? "/api/datasets" : null).data?.datasets ?? [];
  const fitting = sets.filter((set) => set.state === "ready" && set.task === (model.about.task === "classify" ? "classify" : "detect"));
  const [chosen, choose] = useState<number>();
  const [busy, work] = useState(false);
  if (!possible || !data) return null;
  const start = async (format: string) => {
    work(true);
    try {
      await post(`/api/models/${model.id}/exports`, { format, dataset: chosen ?? null });
    } finally {
      work(false);
      reload();
    }
  };
  return (
    <>
      {fitting.length > 0 && (
        <label>
          {t("proveOn")}
          <select value={chosen ?? ""} onChange={(e) => choose(+e.currentTarget.value || undefined)}>
            <option value="">{t("proveOnDrawn")}</option>
            {fitting.map((set) => (
              <option key={set.id} value={set.id}>
                {set.name}
              </option>
            ))}
          </select>
        </label>
      )}
      <ul class="exports">
        {formats.map((format) => {
          const made = data.exports.find((one) => one.format === format);
          return (
            <li key={format}>
              <span>
                <strong>{t(`format_${format}`)}</strong>
                <br />
                <span class="soft">{t(`format_${format}_text`)}</span>
                {made && <Proved proof={made.proof as Proof | null} />}
              </span>
              {made ? (
                <a class="button main" href={`/api/models/${model.id}/exports/${format}`} download aria-label={`${t("download")}: ${t(`format_${format}`)}, ${size(made.bytes)}`}>
                  <Icon name="down" />
                  {size(made.bytes)}
                </a>
              ) : (
                <Act act={() => start(format)} disabled={busy}>
                  {t("exportAs", { format: t(`format_${format}`) })}
                </Act>
              )}
            </li>
          );
        })}
      </ul>
      {busy && (
        <div role="status">
          <p class="soft">{t("exporting")}</p>
          <Meter share={null} label={t("exporting")} />
        </div>
      )}
    </>
  );
}

/** A difference that is at most so large: rounded up, and never finer than anyone can see. */
function difference(value: number): string {
  const digits = value < 0.1 ? 3 : value < 10 ? 2 : 0;
  return number(Math.ceil(value * 10 ** digits) / 10 ** digits, value === 0 ? 0 : digits);
}

function Proved({ proof }: { proof: Proof | null }) {
  if (!proof) return <span class="warntext">{t("notProvedHere")}</span>;
  const score = difference(proof.max_score_difference);
  const words =
    proof.top1_agreement === undefined
      ? t("provedBoxes", { share: percent(proof.agreement), box: difference(proof.max_box_difference ?? 0), score })
      : t("provedClasses", { share: percent(proof.top1_agreement), score });
  const [figure, exported, own] =
    proof.top1_agreement === undefined
      ? [t("map50_95"), proof.map50_95_export, proof.map50_95_model]
      : [t("top1"), proof.top1_export, proof.top1_model];
  return (
    <span class={proof.ok ? "goodtext" : "bad"}>
      {t(proof.ok ? "proved" : "notProved", { n: proof.images })} {words}{" "}
      {proof.labelled && t("provedFigure", { figure, exported: percent(exported), own: percent(own) })}
    </span>
  );
}
