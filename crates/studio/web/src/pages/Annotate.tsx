// Drawing boxes. Everything works with the keyboard; every change is on the disk within a second.
import { useEffect, useState } from "preact/hooks";
import { useLocation } from "wouter-preact";
import { type Dataset, type Gallery, type Image, post } from "../api/client";
import { useData } from "../api/live";
import { t } from "../i18n";
import { said as spoken } from "../i18n/said";
import { Canvas } from "../annotate/Canvas";
import { type Rect, from } from "../annotate/rect";
import { useBoxes } from "../annotate/useBoxes";
import { useKeys } from "../annotate/useKeys";
import { hue } from "../parts/colours";
import { ClassDesk } from "../annotate/ClassDesk";
import { Desk } from "../annotate/Desk";
import { Loading, Trouble } from "../ui";

export function Annotate({ dataset, image }: { dataset: number; image: number }) {
  const set = useData<Dataset>(`/api/datasets/${dataset}`, (e) => e.type === "dataset" && e.dataset === dataset && !e.stage);
  const loaded = useData<Image>(`/api/images/${image}`);
  const models = useData<Gallery>("/api/models", (e) => e.type === "models").data?.models;
  const error = set.error ?? loaded.error;
  if (error) return <Trouble of={error} />;
  if (!set.data || !loaded.data) return <Loading />;
  if (set.data.task === "classify") return <ClassDesk key={image} set={set.data} image={loaded.data} />;
  return <BoxDesk key={image} set={set.data} image={loaded.data} models={models ?? []} />;
}

function BoxDesk({ set, image, models }: { set: Dataset; image: Image; models: Gallery["models"] }) {
  const [, go] = useLocation();
  const [chosen, choose] = useState<number | null>(null);
  const [number, setNumber] = useState(() => +(sessionStorage.getItem("class") ?? 0) || 0);
  const kept = useBoxes(image);
  // A box needs a class; the desk asks for the first one.
  const boxes = set.classes.length > 0 ? kept : { ...kept, change: () => say(t("classFirst")) };
  const [said, say] = useState<string>();
  const current = Math.min(number, Math.max(0, set.classes.length - 1));
  useEffect(() => sessionStorage.setItem("class", String(current)), [current]);

  const fitting = models.filter((model) => model.about.family && model.about.classes?.some((name) => set.classes.includes(name)));
  const [by, setBy] = useState<number>();
  const model = by ?? fitting[0]?.id;
  const suggest = async () => {
    if (model === undefined) return say(t("noModel"));
    say(t("suggesting"));
    try {
      const answer = await post<{ boxes: never[]; left_out: number }>(`/api/images/${image.id}/suggest`, { model });
      boxes.change((old) => [...old, ...answer.boxes.map((box) => from(box))]);
      say(t("suggested", { n: answer.boxes.length, left: answer.left_out }));
    } catch (problem) {
      say(spoken((problem as Error).message));
    }
  };
  const leave = async (to: number | null | undefined) => {
    await boxes.flush();
    if (to) go(`/data/${set.id}/image/${to}`);
  };
  const relabel = (to: number) => {
    if (to >= set.classes.length) return;
    setNumber(to);
    if (chosen !== null) boxes.change((old) => old.map((box, i) => (i === chosen ? { ...box, class: to } : box)));
  };
  useKeys({
    boxes,
    chosen,
    choose,
    relabel,
    number: current,
    size: [image.width, image.height],
    previous: () => leave(image.previous),
    next: () => leave(image.next),
    suggest,
  });
  return (
    <Desk
      set={set}
      image={image}
      saved={boxes.saved}
      error={boxes.error}
      leave={leave}
      chosen={current}
      choose={(to) => to !== undefined && relabel(to)}
      added={setNumber}
      picture={<Canvas image={image} boxes={boxes.boxes} chosen={chosen} choose={choose} change={boxes.change} number={current} classes={set.classes} />}
    >
      <h2>{t("boxes", { n: boxes.boxes.length })}</h2>
      <div class="row">
        <button type="button" disabled={!boxes.canUndo} onClick={boxes.undo}>
          {t("undo")}
        </button>
        <button type="button" disabled={!boxes.canRedo} onClick={boxes.redo}>
          {t("redo")}
        </button>
        <button
          type="button"
          disabled={chosen === null}
          onClick={() => {
            boxes.change((old) => old.filter((_, i) => i !== chosen));
            choose(null);
          }}
        >
          {t("remove")}
        </button>
      </div>
      <ol class="boxlist">
        {boxes.boxes.map((box: Rect, i) => (
          <li key={i}>
            <button type="button" class={i === chosen ? "here" : "quiet"} aria-pressed={i === chosen} onClick={() => choose(i)}>
              <span class="dot" style={{ background: hue(box.class) }} />
              {set.classes[box.class] ?? box.class}
            </button>
          </li>
        ))}
      </ol>
      {fitting.length > 1 && (
        <label>
          {t("suggestBy")}
          <select value={model} onChange={(e) => setBy(+e.currentTarget.value)}>
            {fitting.map((model) => (
              <option key={model.id} value={model.id}>
                {model.name}
              </option>
            ))}
          </select>
        </label>
      )}
      <button type="button" onClick={suggest}>
        {t("suggest")} <kbd>P</kbd>
      </button>
      <p class="soft" role="status">
        {said ?? t("drawText")}
      </p>
      <details>
        <summary>{t("keys")}</summary>
        <dl class="keys">
          {(
            [
              ["N", "keysDraw"],
              ["← → ↑ ↓", "keysMove"],
              ["Alt + ← → ↑ ↓", "keysResize"],
              ["Tab", "keysChoose"],
              ["1 – 9", "keysClass"],
              ["Delete", "keysDelete"],
              ["Ctrl Z, Ctrl Y", "keysUndo"],
              ["[ ]", "keysPicture"],
              ["P", "keysSuggest"],
              ["Esc", "keysDeselect"],
            ] as const
          ).map(([key, text]) => (
            <div key={key}>
              <dt>
                <kbd>{key}</kbd>
              </dt>
              <dd>{t(text)}</dd>
            </div>
          ))}
        </dl>
      </details>
    </Desk>
  );
}

