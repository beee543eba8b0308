import { useState } from "preact/hooks";
import { Link, useLocation, useSearch } from "wouter-preact";
import {
  type Audit,
  type Dataset,
  type Gallery,
  type Histograms,
  type Version,
  patch,
  post,
  remove,
} from "../api/client";
import { useData, useEvents } from "../api/live";
import { has, moment, number, t } from "../i18n";
import { said } from "../i18n/said";
import { Bars } from "../parts/Bars";
import { Grid } from "../parts/Grid";
import { Reading, boxesOf, imagesOf } from "../parts/Steps";
import { Act, Badge, Card, Dialog, Facts, Loading, Meter, Tabs, Title, Trouble } from "../ui";
import { Icon } from "../ui/Icon";

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
              <Link class="button main" href={`/train?data=${id}`}>
                {t("startTraining")}
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
      {set.error && (
        <div class="trouble" role="alert">
          <Icon name="warn" />
          <div>
            <p>{said(set.error.message)}</p>
            {set.error.hint && <p>{said(set.error.hint)}</p>}
          </div>
        </div>
      )}
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

function Pictures({ set, search }: { set: Dataset; search: URLSearchParams }) {
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
      <Prelabelling set={set} />
      <Grid dataset={set.id} query={query.toString()} revision={set.revision} boxes={boxes && !classifies} classes={classifies ? set.classes : undefined} />
      {prelabelling && <Prelabel set={set} close={() => prelabel(false)} />}
      {dividing && <Divide set={set} close={() => divide(false)} />}
    </>
  );
}

/** A model draws the first boxes on all pictures that nobody has labelled. */
function Prelabel({ set, close }: { set: Dataset; close: () => void }) {
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
function Prelabelling({ set }: { set: Dataset }) {
  const [at, tell] = useState<{ done: number; total: number }>();
  const [failed, fail] = useState<string>();
  useEvents((event) => {
    if (event.type === "dataset" && event.dataset === set.id) tell(event.stage === "prelabel" ? event : undefined);
    if (event.type === "prelabelled" && event.dataset === set.id) fail(event.error?.message);
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

function Divide({ set, close }: { set: Dataset; close: () => void }) {
  const [val, setVal] = useState(20);
  const [test, setTest] = useState(0);
  const [groups, setGroups] = useState(false);
  return (
    <Dialog title={t("divide")} close={close}>
      <p>{t("divideText")}</p>
      <label>
        {t("valShare")}: {val} %
        <input type="range" min={5} max={50} value={val} onInput={(e) => setVal(+e.currentTarget.value)} />
      </label>
      <label>
        {t("testShare")}: {test} %
        <input type="range" min={0} max={40} value={test} onInput={(e) => setTest(+e.currentTarget.value)} />
      </label>
      <label class="check">
        <input type="checkbox" checked={groups} onChange={(e) => setGroups(e.currentTarget.checked)} />
        {t("keepGroups")}
      </label>
      <Act
        class="main"
        act={async () => {
          await post(`/api/datasets/${set.id}/split`, { val: val / 100, test: test / 100, groups });
          close();
        }}
      >
        {t("divide")}
      </Act>
    </Dialog>
  );
}

function Report({ set }: { set: Dataset }) {
  const { data, error } = useData<Audit>(set.checked ? `/api/datasets/${set.id}/audit` : null, (e) => e.type === "dataset" && e.dataset === set.id && !e.stage);
  if (!set.checked) return <p class="soft">{t("checking")}</p>;
  if (error) return <Trouble of={error} />;
  if (!data) return <Loading />;
  const classifies = set.task === "classify";
  const values = { images: t("images", { n: data.images }), boxes: classifies ? t("classes", { n: set.classes.length }) : t("boxes", { n: data.boxes }) };
  const words = data.fault_count === 0 ? t("reportFine", values) : t(data.ok ? "reportWarn" : "reportBad");
  const kindName = (kind: string) => (has(`fault_${kind}`) ? t(`fault_${kind}` as "fault_split_made") : kind.replaceAll("_", " "));
  return (
    <>
      <Card class={data.fault_count === 0 ? "good" : ""}>
        <p class="row">
          <Icon name={data.fault_count === 0 ? "check" : "warn"} />
          {words}
        </p>
        {data.kinds.length > 0 && (
          <ul class="kinds">
            {data.kinds.map(({ kind, count, severity, remedy }) => (
              <li key={kind}>
                <Badge kind={severity === "error" ? "bad" : "warn"}>{number(count)}</Badge> {kindName(kind)}
                <Remedy set={set} kind={kind} remedy={remedy} mended={data.mended.includes(kind)} />
              </li>
            ))}
          </ul>
        )}
        {!data.ok && (
          <p>
            {t("leftOut")} <Link href={`/data/${set.id}?only=faulty`}>{t("faulty")}</Link>
          </p>
        )}
      </Card>
      {data.faults.length > 0 && (
        <div class="scroll">
          <table class="table">
            <thead>
              <tr>
                <th>{t("fault")}</th>
                <th>{t("where")}</th>
              </tr>
            </thead>
            <tbody>
              {data.faults.slice(0, 500).map((fault, i) => (
                <tr key={i}>
                  <td>
                    <Badge kind={fault.severity === "error" ? "bad" : "warn"}>{t(fault.severity)}</Badge> {kindName(fault.kind)}
                    <div class="soft">{said(fault.message)}</div>
                  </td>
                  <td class="path">
                    {fault.path}
                    {fault.line ? `:${fault.line}` : ""}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {data.fault_count > 500 && <p class="soft">{t("moreFaults", { n: data.fault_count - 500 })}</p>}
    </>
  );
}

/** What helps against a kind of fault: a button, or what was done already. */
function Remedy({ set, kind, remedy, mended }: { set: Dataset; kind: string; remedy: Audit["kinds"][number]["remedy"]; mended: boolean }) {
  const [done, say] = useState<{ images: number; left: number }>();
  if (!remedy) return null;
  if (remedy !== "keep_sound" && remedy !== "leave_out") return <span class="soft remedy">{t(`remedy_${remedy}`)}</span>;
  if (mended)
    return (
      <span class="goodtext remedy">
        {t("remedyDone")} {done && t("remedyCount", { n: done.images, left: done.left })}
      </span>
    );
  return (
    <span class="remedy">
      <Act act={async () => say(await post(`/api/datasets/${set.id}/remedies`, { kind }))}>{t(`remedy_${remedy}`)}</Act>
    </span>
  );
}

function Charts({ set }: { set: Dataset }) {
  const { data, error } = useData<Histograms>(`/api/datasets/${set.id}/histograms`);
  if (error) return <Trouble of={error} />;
  if (!data) return <Loading />;
  const classes = data.classes.map(({ name, boxes }) => ({ name, value: boxes }));
  const bins = data.sizes.length;
  const sizes = data.sizes.map((value, i) => ({ name: `${(100 * i) / bins}–${(100 * (i + 1)) / bins} %`, value }));
  const per = data.per_image.map((value, i) => ({ name: i === data.per_image.length - 1 ? `${i}+` : String(i), value }));
  const all = data.sizes.reduce((a, b) => a + b, 0);
  return (
    <>
      {set.task !== "classify" && all > 0 && (data.sizes[0] ?? 0) / all > 0.5 && <p class="note">{t("smallWarn")}</p>}
      <div class="two">
        <Card>
          <Bars title={t(set.task === "classify" ? "perClassImages" : "perClass")} values={classes} />
        </Card>
        {set.task !== "classify" && (
        <>
        <Card>
          <Bars title={t("boxSizes")} values={sizes.slice(0, 1 + sizes.findLastIndex(({ value }) => value > 0))} />
        </Card>
        <Card>
          <Bars title={t("perImage")} values={per.slice(0, 1 + per.findLastIndex(({ value }) => value > 0))} />
        </Card>
        </>
        )}
      </div>
    </>
  );
}

function Versions({ set }: { set: Dataset }) {
  const { data, error, reload } = useData<{ versions: Version[] }>(`/api/datasets/${set.id}/versions`, (e) => e.type === "dataset" && e.dataset === set.id && !e.stage);
  const [note, write] = useState("");
  const latest = data?.versions[0];
  const changed = !latest || latest.revision !== set.revision;
  const noteOf = (text: string) => (text === "as imported" || text === "for training" ? t(text) : text);
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
