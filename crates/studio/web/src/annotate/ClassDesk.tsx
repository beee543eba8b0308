// A picture with one class: chosen by a click or a digit, kept at once.
import { useEffect, useState } from "preact/hooks";
import { Link, useLocation } from "wouter-preact";
import { type Dataset, type Image, post, put } from "../api/client";
import { t } from "../i18n";
import { hue } from "../parts/colours";
import { Trouble } from "../ui";
import { Icon } from "../ui/Icon";

export function ClassDesk({ set, image }: { set: Dataset; image: Image }) {
  const [, go] = useLocation();
  const first = (image.boxes as unknown as number[][])[0]?.[0];
  const [state, keep] = useState<{ label: number | undefined; revision: number; saved: boolean }>({ label: first, revision: image.revision, saved: true });
  const [error, fail] = useState<Error>();
  const label = async (to: number | undefined) => {
    if (!state.saved || (to !== undefined && to >= set.classes.length)) return;
    keep({ ...state, label: to, saved: false });
    try {
      const boxes = to === undefined ? [] : [[to, 0.5, 0.5, 1, 1]];
      const { revision } = await put<{ revision: number }>(`/api/images/${image.id}/boxes`, { revision: state.revision, boxes });
      keep({ label: to, revision, saved: true });
      fail(undefined);
    } catch (problem) {
      keep({ ...state, saved: true });
      fail(problem as Error);
    }
  };
  const leave = (to: number | null | undefined) => to && go(`/data/${set.id}/image/${to}`);
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLInputElement) return;
      if (/^[1-9]$/.test(event.key)) void label(+event.key - 1);
      else if (event.key === "Delete" || event.key === "0") void label(undefined);
      else if (event.key === "[" || event.key === "ArrowLeft") leave(image.previous);
      else if (event.key === "]" || event.key === "ArrowRight") leave(image.next);
      else return;
      event.preventDefault();
    };
    window.addEventListener("keydown", press);
    return () => window.removeEventListener("keydown", press);
  });
  const addClass = async (event: Event) => {
    event.preventDefault();
    const input = (event.currentTarget as HTMLFormElement).elements.namedItem("name") as HTMLInputElement;
    if (!input.value.trim()) return;
    try {
      await post(`/api/datasets/${set.id}/classes`, { name: input.value });
      input.value = "";
      fail(undefined);
    } catch (problem) {
      fail(problem as Error);
    }
  };
  return (
    <div class="desk">
      <div class="row between">
        <div class="row">
          <Link class="button quiet" href={`/data/${set.id}`}>
            <Icon name="left" />
            {set.name}
          </Link>
          <strong class="name">{image.name}</strong>
          <span class="soft" role="status" data-saved={state.saved && !error}>
            {t(state.saved ? "saved" : "saving")}
          </span>
        </div>
        <div class="row">
          <button type="button" aria-label={t("previous")} title={`${t("previous")} ([)`} disabled={!image.previous} onClick={() => leave(image.previous)}>
            <Icon name="left" />
          </button>
          <button type="button" aria-label={t("next")} title={`${t("next")} (])`} disabled={!image.next} onClick={() => leave(image.next)}>
            <Icon name="right" />
          </button>
        </div>
      </div>
      <Trouble of={error} />
      <div class="bench">
        <div class="shown">
          <img src={`/api/images/${image.id}/picture`} alt={t("imageAlt", { name: image.name })} />
        </div>
        <aside class="tools">
          <h2>{t("class")}</h2>
          <div class="labels" role="radiogroup" aria-label={t("class")}>
            {set.classes.map((name, i) => (
              <button key={i} type="button" role="radio" aria-checked={i === state.label} onClick={() => label(i)}>
                <span class="dot" style={{ background: hue(i) }} />
                <span class="name">{name}</span>
                {i < 9 && <kbd>{i + 1}</kbd>}
              </button>
            ))}
            <button type="button" role="radio" aria-checked={state.label === undefined} onClick={() => label(undefined)}>
              <span class="name soft">{t("unlabelled")}</span>
              <kbd>0</kbd>
            </button>
          </div>
          <form class="row" onSubmit={addClass}>
            <input name="name" class="grow" aria-label={t("newClass")} placeholder={t("newClass")} maxLength={120} />
            <button type="submit">{t("addClass")}</button>
          </form>
          <p class="soft">{t("classText")}</p>
        </aside>
      </div>
    </div>
  );
}
