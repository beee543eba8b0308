import { useMemo, useState } from "preact/hooks";
import { Link, useLocation, useSearch } from "wouter-preact";
import { type Dataset, type Gallery, type Recipe, post } from "../api/client";
import { useData } from "../api/live";
import { type Key, duration, number, t } from "../i18n";
import { imagesOf } from "../parts/Steps";
import { Act, Badge, Card, Loading, Title } from "../ui";
import { licenceOf } from "./Models";

const sizes = [224, 320, 416, 512, 640, 800, 960, 1280];

export function TrainPage() {
  const search = new URLSearchParams(useSearch());
  const sets = useData<{ datasets: Dataset[] }>("/api/datasets", (e) => e.type === "dataset" && !e.stage).data?.datasets;
  const gallery = useData<Gallery>("/api/models", (e) => e.type === "models").data;
  const recipe = useData<Recipe>("/api/recipe").data;
  if (!sets || !gallery || !recipe) return <Loading />;
  const ready = sets.filter((set) => set.state === "ready");
  return (
    <>
      <Title>{t("trainTitle")}</Title>
      {ready.length === 0 ? (
        <Card>
          <p>{t("noData")}</p>
          <Link class="button main" href="/data">
            {t("addData")}
          </Link>
        </Card>
      ) : (
        <Form sets={ready} gallery={gallery} recipe={recipe} search={search} />
      )}
    </>
  );
}

function Form({ sets, gallery, recipe, search }: { sets: Dataset[]; gallery: Gallery; recipe: Recipe; search: URLSearchParams }) {
  const [, go] = useLocation();
  const [data, setData] = useState(() => +(search.get("data") ?? sets[0]!.id));
  const set = sets.find((set) => set.id === data) ?? sets[0]!;
  const classifies = set.task === "classify";
  // Only what is made for pictures like these.
  const starts = useMemo(
    () => [
      ...gallery.models
        .filter((model) => model.about.family && (model.about.task === "classify") === classifies)
        .map((model) => ({ id: `m${model.id}`, name: model.name, model })),
      ...gallery.known
        .filter((known) => known.task === set.task)
        .map((known) => ({ id: `k${known.name}`, name: `${known.name} (${t("fromScratch")})`, model: undefined })),
    ],
    [gallery, classifies],
  );
  // A model that has seen much is the better start than one of the person's own runs.
  const first = starts.find((start) => start.model && start.model.origin !== "run") ?? starts.find((start) => start.model) ?? starts[0];
  const [wish, setStart] = useState(() => (search.get("model") ? `m${search.get("model")}` : first?.id));
  const start = starts.some((one) => one.id === wish) ? wish : first?.id;
  const [chosen, setStrategy] = useState<string>();
  const [epochs, setEpochs] = useState("30");
  const [side, setImgsz] = useState<string>();
  const imgsz = side ?? (classifies ? "224" : "416");
  const [batch, setBatch] = useState("8");
  const [name, setName] = useState("");
  const [more, setMore] = useState<Record<string, string>>({});
  const model = starts.find((one) => one.id === start)?.model;
  const images = set.splits.find(({ split }) => split === "train")?.images ?? imagesOf(set);
  const suggested = images > 2000 ? "standard" : classifies ? "head" : "gentle";
  const strategy = chosen ?? suggested;

  const gflops = gallery.known.find((known) => known.name === (model?.about.model ?? start?.slice(1)))?.gflops;
  const seconds = recipe.speed && gflops && !classifies ? (images * +epochs * gflops * (+imgsz / 640) ** 2) / recipe.speed : undefined;
  const expert = strategy === "expert";

  const begin = async () => {
    const made = await post<{ id: number }>("/api/jobs", {
      name: name.trim() || `${set.name}, ${model?.name ?? start?.slice(1)}`,
      dataset: set.id,
      model: model ? { model: model.id } : { scratch: start?.slice(1) },
      strategy,
      arguments: [["epochs", epochs], ["imgsz", imgsz], ["batch", batch], ...Object.entries(more).filter(([, text]) => text.trim() !== "")],
    });
    go(`/runs/${made.id}`);
  };
  return (
    <div class="form">
      <Card>
        <h2>{t("chooseData")}</h2>
        <select aria-label={t("chooseData")} value={set.id} onChange={(e) => setData(+e.currentTarget.value)}>
          {sets.map((one) => (
            <option key={one.id} value={one.id}>
              {one.name} ({t("images", { n: imagesOf(one) })})
            </option>
          ))}
        </select>
      </Card>
      <Card>
        <h2>{t("chooseModel")}</h2>
        <select aria-label={t("chooseModel")} value={start} onChange={(e) => setStart(e.currentTarget.value)}>
          {starts.map((one) => (
            <option key={one.id} value={one.id}>
              {one.name}
            </option>
          ))}
        </select>
        {model?.about.licence && (
          <p class="soft">
            {t("licence")}: {licenceOf(model)}
          </p>
        )}
      </Card>
      <Card>
        <h2 id="how">{t("chooseHow")}</h2>
        <div class="options" role="radiogroup" aria-labelledby="how">
          {recipe.strategies.map((one) => (
            <label key={one} class={one === strategy ? "option here" : "option"}>
              <input type="radio" name="strategy" value={one} checked={one === strategy} onChange={() => setStrategy(one)} />
              <span>
                <strong>{t(one as Key)}</strong> {one === suggested && <Badge kind="good">{t("recommended")}</Badge>}
                <br />
                <span class="soft">{t(`${one}Text` as Key)}</span>
              </span>
            </label>
          ))}
        </div>
        <div class="three">
          <label>
            {t("epochs")}
            <input inputMode="numeric" value={epochs} onInput={(e) => setEpochs(e.currentTarget.value)} />
          </label>
          <label>
            {t("imgsz")}
            <select value={imgsz} onChange={(e) => setImgsz(e.currentTarget.value)}>
              {sizes.map((size) => (
                <option key={size} value={size}>
                  {size}
                </option>
              ))}
            </select>
            <span class="soft">{t("imgszText")}</span>
          </label>
          <label>
            {t("batch")}
            <input inputMode="numeric" value={batch} onInput={(e) => setBatch(e.currentTarget.value)} />
          </label>
        </div>
        {expert && <Expert recipe={recipe} values={more} set={setMore} />}
      </Card>
      <Card>
        <label>
          {t("runName")}
          <input value={name} maxLength={200} placeholder={`${set.name}, ${model?.name ?? start?.slice(1)}`} onInput={(e) => setName(e.currentTarget.value)} />
        </label>
        <p>
          {seconds ? (
            <>
              {t("expected", { time: duration(seconds) })} <span class="soft">({t("expectedText")})</span>
            </>
          ) : (
            <span class="soft">{t("expectedUnknown")}</span>
          )}
        </p>
        <Act class="main" act={begin}>
          {t("start")}
        </Act>
      </Card>
    </div>
  );
}

/** Every argument of `onsa train`; what stays empty keeps its default. */
function Expert({ recipe, values, set }: { recipe: Recipe; values: Record<string, string>; set: (values: Record<string, string>) => void }) {
  const shown = recipe.arguments.filter(({ name }) => !["epochs", "imgsz", "batch"].includes(name));
  const headings = [...new Set(shown.map(({ heading }) => heading))];
  return (
    <div class="expert">
      <h3>
        {t("allArguments")} <span class="count">{number(shown.length)}</span>
      </h3>
      {headings.map((heading) => (
        <details key={heading} open={heading === "Optimiser"}>
          <summary>{heading}</summary>
          <div class="three">
            {shown
              .filter((argument) => argument.heading === heading)
              .map(({ name, help, flag, default: standard, value }) => (
                <label key={name}>
                  <code>{name}</code>
                  {flag ? (
                    <select value={values[name] ?? ""} onChange={(e) => set({ ...values, [name]: e.currentTarget.value })}>
                      <option value="">{standard}</option>
                      <option value="true">true</option>
                      <option value="false">false</option>
                    </select>
                  ) : (
                    <input
                      value={values[name] ?? ""}
                      placeholder={standard === "null" ? value.toLowerCase() : standard}
                      onInput={(e) => set({ ...values, [name]: e.currentTarget.value })}
                    />
                  )}
                  <span class="soft">{help}</span>
                </label>
              ))}
          </div>
        </details>
      ))}
    </div>
  );
}
