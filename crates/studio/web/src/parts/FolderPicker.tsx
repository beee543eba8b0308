import { useState } from "preact/hooks";
import { type Listing } from "../api/client";
import { useData } from "../api/live";
import { t } from "../i18n";
import { Badge, Dialog, Loading, Trouble } from "../ui";
import { Icon } from "../ui/Icon";

/** Folders on this machine, below those that the studio was started with. */
export function FolderPicker({ choose, close }: { choose: (id: number, name: string) => void; close: () => void }) {
  const [at, go] = useState<number | null>(null);
  const { data, error } = useData<Listing>(at === null ? "/api/folders" : `/api/folders/${at}`);
  return (
    <Dialog title={t("chooseFolder")} close={close}>
      <p class="soft">{t("chooseFolderText")}</p>
      <Trouble of={error} />
      {!data && !error && <Loading />}
      {data && (
        <>
          {data.here && (
            <div class="row between">
              <button type="button" class="quiet" onClick={() => go(data.above ?? null)}>
                <Icon name="left" />
                {t("above")}
              </button>
              <strong class="name">{data.here.name}</strong>
            </div>
          )}
          <ul class="folders">
            {data.folders.map((folder) => (
              <li key={folder.id}>
                <button type="button" class="quiet" onClick={() => go(folder.id)}>
                  <Icon name="folder" />
                  <span class="name">{folder.name}</span>
                  {folder.is_dataset && <Badge kind="good">{t("looksLike")}</Badge>}
                </button>
              </li>
            ))}
          </ul>
          {data.folders.length === 0 && <p class="soft">{t("noFolders")}</p>}
          {data.here && (
            <div class="row between">
              <span class="soft">{t("files", { n: data.files })}</span>
              <button type="button" class="main" onClick={() => choose(data.here!.id, data.here!.name)}>
                {t("useFolder")}
              </button>
            </div>
          )}
        </>
      )}
    </Dialog>
  );
}
