// What the check found, and what can be done about it.
import { useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { type Audit, type Dataset, post } from "../api/client";
import { useData } from "../api/live";
import { has, number, t } from "../i18n";
import { said } from "../i18n/said";
import { Act, Badge, Card, Loading, Trouble } from "../ui";
import { Icon } from "../ui/Icon";

export function Report({ set }: { set: Dataset }) {
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
        <p class="row stays">
          <Icon name={data.fault_count === 0 ? "check" : "warn"} />
          <span>{words}</span>
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
        {data.kinds.some(({ kind, severity }) => severity === "error" && !data.mended.includes(kind)) && (
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
  const [done, say] = useState<{ images: number; left: number; version: number | null }>();
  if (!remedy) return null;
  if (remedy !== "keep_sound" && remedy !== "leave_out") return <span class="soft remedy">{t(`remedy_${remedy}`)}</span>;
  if (mended)
    return (
      <span class="goodtext remedy">
        {t("remedyDone")} {done && t("remedyCount", { n: done.images, left: done.left })}{" "}
        {done?.version && <Link href={`/data/${set.id}?tab=versions`}>{t("remedyVersion", { n: done.version })}</Link>}
      </span>
    );
  return (
    <span class="remedy">
      <Act act={async () => say(await post(`/api/datasets/${set.id}/remedies`, { kind }))}>{t(`remedy_${remedy}`)}</Act>
    </span>
  );
}
