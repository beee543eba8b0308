import { useState } from "preact/hooks";
import { Link, useLocation } from "wouter-preact";
import { type Endpoint, type Gallery, type Model, post, upload } from "../api/client";
import { useData } from "../api/live";
import { type Key, number, percent, size, t } from "../i18n";
import { Badge, Card, Drop, Facts, Loading, Meter, Title, Trouble } from "../ui";

export function ModelsPage() {
  const { data, error } = useData<Gallery>("/api/models", (e) => e.type === "models");
  const answering = useData<{ endpoints: Endpoint[] }>("/api/endpoints", (e) => e.type === "endpoint").data?.endpoints ?? [];
  const [, go] = useLocation();
  const [busy, work] = useState<number>();
  const [failed, fail] = useState<Error>();
  const take = async (what: DataTransfer | FileList) => {
    const file = (what instanceof FileList ? what : what.files)[0];
    if (!file) return;
    fail(undefined);
    work(0);
    try {
      const id = await upload(file, file.name, work);
      const made = await post<{ id: number }>("/api/models", { upload: id, name: file.name.replace(/\.\w+$/, "") });
      go(`/models/${made.id}`);
    } catch (problem) {
      fail(problem as Error);
    }
    work(undefined);
  };
  return (
    <>
      <Title text={t("modelsText")}>{t("models")}</Title>
      <Trouble of={error} />
      {!data && !error && <Loading />}
      {data && (
        <>
          <h2>{t("here")}</h2>
          <ul class="cards">
            {data.models.map((model) => (
              <li key={model.id}>
                <Link href={`/models/${model.id}`} class="card link">
                  <span class="row between">
                    <strong class="name">{model.name}</strong>
                    <Badge kind={model.origin === "run" ? "good" : "plain"}>{t(`origin_${model.origin}` as Key)}</Badge>
                  </span>
                  {answering.some((endpoint) => endpoint.model === model.id && endpoint.state === "running") && (
                    <span>
                      <Badge kind="busy">{t("endpoint_running")}</Badge>
                    </span>
                  )}
                  <ModelFacts model={model} />
                </Link>
              </li>
            ))}
          </ul>
          {data.models.length === 0 && <p class="soft">{t("nothing")}</p>}
          <Card>
            {busy !== undefined ? (
              <Meter share={busy} label={t("uploading", { share: percent(busy) })} />
            ) : (
              <Drop take={take} accept=".pt,.pth,.safetensors,.onnx" button={t("uploadModel")}>
                <p class="soft">{t("uploadModelText")}</p>
              </Drop>
            )}
            <Trouble of={failed} />
          </Card>
          <h2>{t("known")}</h2>
          <p class="soft">
            {t("knownText")} {t("accuracy")}: {t("accuracyText")}.
          </p>
          <div class="scroll">
            <table class="table">
              <thead>
                <tr>
                  <th>{t("name")}</th>
                  <th class="number" title={t("accuracyText")}>{t("accuracy")}</th>
                  <th class="number">{t("parameters")}</th>
                  <th class="number">{t("effort")}</th>
                  <th>{t("licence")}</th>
                  <th />
                </tr>
              </thead>
              <tbody>
                {data.known.map((known) => (
                  <tr key={known.name}>
                    <td>
                      <strong>{known.name}</strong>
                      <div class="soft">{known.task === "classify" ? t("task_classify") : t(`goodFor_${known.name.at(-1)}` as Key)}</div>
                    </td>
                    <td class="number">{percent(known.accuracy)}</td>
                    <td class="number">{known.parameters ? `${number(known.parameters, 1)} M` : "–"}</td>
                    <td class="number">{known.gflops ? `${number(known.gflops, 1)} GFLOP` : "–"}</td>
                    <td>{known.licence}</td>
                    <td>
                      {known.model ? (
                        <Link href={`/models/${known.model}`}>
                          <Badge kind="good">{t("weightsHere")}</Badge>
                        </Link>
                      ) : (
                        <span class="soft">{t("fromScratch")}</span>
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </>
      )}
    </>
  );
}

/** The licence's name; some files write it with an address behind. */
export const licenceOf = (model: Model) => model.about.licence?.replace(/ License \(http.*\)$/, "") ?? t("notSaid");

export function ModelFacts({ model }: { model: Model }) {
  const { about } = model;
  const task = about.task === "detect" || about.task === "classify" ? t(`task_${about.task}`) : t("notSaid");
  return (
    <Facts
      of={[
        [t("architecture"), about.model ?? t("unknownModel")],
        [t("task"), task],
        [t("licence"), licenceOf(model)],
        [t("parameters"), about.parameters ? `${number(about.parameters / 1e6, 1)} M` : "–"],
        [t("format"), `${about.format ?? "–"}, ${size(model.bytes)}`],
      ]}
    />
  );
}
