// Which pictures a model is judged on.
import { useState } from "preact/hooks";
import { type Dataset, post } from "../api/client";
import { t } from "../i18n";
import { Act, Dialog } from "../ui";

export function Divide({ set, close }: { set: Dataset; close: () => void }) {
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
