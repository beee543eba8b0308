// The desk that a picture lies on while it is labelled: the way to its neighbours, whether it is kept, the classes, and
// beside them what the kind of labels needs.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { type Dataset, type Image, Problem, post } from "../api/client";
import { t } from "../i18n";
import { said } from "../i18n/said";
import { hue } from "../parts/colours";
import { Trouble } from "../ui";
import { Icon } from "../ui/Icon";

export function Desk({
  set,
  image,
  saved,
  error,
  leave,
  chosen,
  choose,
  unset,
  added,
  picture,
  children,
}: {
  set: Dataset;
  image: Image;
  /** Whether every change is on the disk. */
  saved: boolean;
  error: Error | undefined;
  /** Goes to another picture. */
  leave: (image: number | null | undefined) => void;
  /** The number of the class that is chosen. */
  chosen: number | undefined;
  choose: (number: number | undefined) => void;
  /** Whether a picture may have no class. */
  unset?: boolean;
  /** Is told the number of a new class. */
  added?: (number: number) => void;
  picture: ComponentChildren;
  children: ComponentChildren;
}) {
  return (
    <div class="desk">
      <div class="row between">
        <div class="row">
          <Link class="button quiet" href={`/data/${set.id}`}>
            <Icon name="left" />
            {set.name}
          </Link>
          <strong class="name">{image.name}</strong>
          <span class={error ? "bad" : "soft"} role="status" data-saved={saved && !error}>
            {error ? t("notSaved", { why: [error.message, error instanceof Problem && error.hint].map((text) => text && said(text)).filter(Boolean).join(" — ") }) : t(saved ? "saved" : "saving")}
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
      <div class="bench">
        {picture}
        <aside class="tools">
          <h2>{t("class")}</h2>
          <div class="labels" role="radiogroup" aria-label={t("class")}>
            {set.classes.map((name, i) => (
              <button key={i} type="button" role="radio" aria-checked={i === chosen} onClick={() => choose(i)}>
                <span class="dot" style={{ background: hue(i) }} />
                <span class="name">{name}</span>
                {i < 9 && <kbd>{i + 1}</kbd>}
              </button>
            ))}
            {unset && (
              <button type="button" role="radio" aria-checked={chosen === undefined} onClick={() => choose(undefined)}>
                <span class="name soft">{t("unlabelled")}</span>
                <kbd>0</kbd>
              </button>
            )}
          </div>
          {set.classes.length === 0 && <p>{t("classFirst")}</p>}
          <NewClass set={set} added={added} />
          {children}
        </aside>
      </div>
    </div>
  );
}

function NewClass({ set, added }: { set: Dataset; added?: (number: number) => void }) {
  const [name, write] = useState("");
  const [error, fail] = useState<Error>();
  const add = async (event: Event) => {
    event.preventDefault();
    if (!name.trim()) return;
    try {
      await post(`/api/datasets/${set.id}/classes`, { name });
      added?.(set.classes.length);
      write("");
      fail(undefined);
    } catch (problem) {
      fail(problem as Error);
    }
  };
  return (
    <>
      <form class="row" onSubmit={add}>
        <input
          name="name"
          class="grow"
          aria-label={t("newClass")}
          placeholder={t("newClass")}
          maxLength={200}
          value={name}
          onInput={(e) => write(e.currentTarget.value)}
        />
        <button type="submit">{t("addClass")}</button>
      </form>
      <Trouble of={error} />
    </>
  );
}
