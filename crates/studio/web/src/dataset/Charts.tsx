// How many boxes or pictures there are of what.
import { type Dataset, type Histograms } from "../api/client";
import { useData } from "../api/live";
import { t } from "../i18n";
import { Bars } from "../parts/Bars";
import { Card, Loading, Trouble } from "../ui";

export function Charts({ set }: { set: Dataset }) {
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
