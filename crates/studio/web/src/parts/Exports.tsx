// The formats that a model is deployed in: made on demand, and compared with the model before they are handed out.
import { useState } from "preact/hooks";
import { type About, type Exported, type Model, post } from "../api/client";
import { useData } from "../api/live";
import { size, t } from "../i18n";
import { Act, Meter } from "../ui";
import { Icon } from "../ui/Icon";

interface Proof {
  images: number;
  max_box_difference: number;
  max_score_difference: number;
  ok: boolean;
}

const formats = ["onnx", "onnx-whole", "torch", "safetensors", "tflite"] as const;

export function Exports({ model }: { model: Model }) {
  const possible = useData<About>("/api/about").data?.exports;
  const { data, reload } = useData<{ exports: Exported[] }>(possible ? `/api/models/${model.id}/exports` : null);
  const [busy, work] = useState(false);
  if (!possible || !data) return null;
  const start = async (format: string) => {
    work(true);
    try {
      await post(`/api/models/${model.id}/exports`, { format });
    } finally {
      work(false);
      reload();
    }
  };
  return (
    <>
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
                <a class="button main" href={`/api/models/${model.id}/exports/${format}`} download aria-label={`${t("download")}: ${t(`format_${format}`)}`}>
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

function Proved({ proof }: { proof: Proof | null }) {
  if (!proof) return <span class="warntext">{t("notProvedHere")}</span>;
  return (
    <span class={proof.ok ? "goodtext" : "bad"}>
      {t(proof.ok ? "proved" : "notProved", {
        n: proof.images,
        box: proof.max_box_difference.toPrecision(2),
        score: proof.max_score_difference.toPrecision(2),
      })}
    </span>
  );
}
