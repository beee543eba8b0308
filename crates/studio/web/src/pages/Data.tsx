import { useState } from "preact/hooks";
import { Link, useLocation } from "wouter-preact";
import { type Dataset, Problem, post, upload } from "../api/client";
import { useData } from "../api/live";
import { percent, t } from "../i18n";
import { FolderPicker } from "../parts/FolderPicker";
import { DatasetBadge, Reading, boxesOf, imagesOf } from "../parts/Steps";
import { dropped, pack } from "../parts/folder";
import { Card, Drop, Loading, Meter, Title, Trouble } from "../ui";
import { Icon } from "../ui/Icon";

export function DataPage() {
  const { data, error } = useData<{ datasets: Dataset[] }>("/api/datasets", (e) => e.type === "dataset" && !e.stage);
  return (
    <>
      <Title text={t("dataText")}>{t("data")}</Title>
      <Add />
      <Trouble of={error} />
      {!data && !error && <Loading />}
      <ul class="cards">
        {data?.datasets.map((set) => (
          <li key={set.id}>
            <Link href={`/data/${set.id}`} class="card link">
              {set.cover ? <img class="cover" src={`/api/images/${set.cover}/small`} alt="" /> : <span class="cover" />}
              <span class="row between">
                <strong class="name">{set.name}</strong>
                <DatasetBadge dataset={set} />
              </span>
              <span class="soft">
                {t("images", { n: imagesOf(set) })} · {set.task === "classify" ? "" : `${t("boxes", { n: boxesOf(set) })} · `}{t("classes", { n: set.classes.length })}
              </span>
              <Reading dataset={set} />
            </Link>
          </li>
        ))}
      </ul>
    </>
  );
}

function Add() {
  const [, go] = useLocation();
  const [picking, pick] = useState(false);
  const [busy, work] = useState<{ words: string; share: number | null }>();
  const [error, fail] = useState<Error>();

  const begin = async (name: string, from: unknown) => {
    const made = await post<{ id: number }>("/api/datasets", { name, from });
    go(`/data/${made.id}`);
  };
  const send = async (file: Blob, name: string) => {
    const words = (share: number) => t("uploading", { share: percent(share) });
    work({ words: words(0), share: 0 });
    const id = await upload(file, name, (share) => work({ words: words(share), share }));
    await begin(name.replace(/\.zip$/i, ""), { upload: id });
  };
  const take = async (what: DataTransfer | FileList) => {
    fail(undefined);
    try {
      const files = what instanceof FileList ? [...what] : [...what.files];
      if (files.length === 1 && files[0]!.name.toLowerCase().endsWith(".zip")) {
        await send(files[0]!, files[0]!.name);
      } else if (!(what instanceof FileList)) {
        const entries = await dropped(what);
        if (entries.length === 0) return;
        const total = entries.length;
        const tell = (done: number) => work({ words: t("packing", { done, total }), share: done / total });
        tell(0);
        const [top, below] = entries[0]!.path.split("/") as [string, string?];
        await send(await pack(entries, tell), `${below === undefined ? t("pictures") : top}.zip`);
      } else {
        throw new Problem(400, files[0]?.name ?? "", t("dropText"));
      }
    } catch (problem) {
      fail(problem as Error);
    }
    work(undefined);
  };
  return (
    <Card>
      <h2>{t("addData")}</h2>
      {busy ? (
        <div role="status">
          <p>{busy.words}</p>
          <Meter share={busy.share} label={busy.words} />
        </div>
      ) : (
        <div class="two">
          <Drop take={take} accept=".zip" button={t("chooseZip")}>
            <p>
              <strong>{t("dropHere")}</strong>
              <br />
              <span class="soft">{t("dropText")}</span>
            </p>
          </Drop>
          <div class="drop plain">
            <p class="soft">{t("chooseFolderText")}</p>
            <button type="button" onClick={() => pick(true)}>
              <Icon name="folder" />
              {t("chooseFolder")}
            </button>
          </div>
        </div>
      )}
      <Trouble of={error} />
      {picking && (
        <FolderPicker
          close={() => pick(false)}
          choose={(id, name) => {
            pick(false);
            begin(name, { folder: id }).catch(fail);
          }}
        />
      )}
    </Card>
  );
}
