// A picture with one class: chosen by a click or a digit, kept at once.
import { useEffect, useState } from "preact/hooks";
import { useLocation } from "wouter-preact";
import { type Dataset, type Image, put } from "../api/client";
import { t } from "../i18n";
import { Desk } from "./Desk";

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
  const picture = (
    <div class="shown">
      <img src={`/api/images/${image.id}/picture`} alt={t("imageAlt", { name: image.name })} />
    </div>
  );
  return (
    <Desk set={set} image={image} saved={state.saved} error={error} leave={leave} chosen={state.label} choose={label} unset picture={picture}>
      <p class="soft">{t("classText")}</p>
    </Desk>
  );
}
