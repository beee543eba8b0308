// The small pieces that pages are made of.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { ErrorText } from "../api/client";
import { type Key, t } from "../i18n";
import { said } from "../i18n/said";
import { Icon, type IconName } from "./Icon";

export function Title({ children, text, aside }: { children: ComponentChildren; text?: string; aside?: ComponentChildren }) {
  return (
    <div class="title">
      <div>
        <h1>{children}</h1>
        {text && <p class="lead">{text}</p>}
      </div>
      {aside && <div class="row">{aside}</div>}
    </div>
  );
}

export function Card({ children, class: more = "" }: { children: ComponentChildren; class?: string }) {
  return <section class={`card ${more}`}>{children}</section>;
}

/** A problem with its causes and what helps; nothing where there is none. */
export function Trouble({ of, whose }: { of: Error | ErrorText | string | undefined | null; whose?: string }) {
  if (!of) return null;
  const { message, causes, hint } = typeof of === "string" ? { message: of } : ({ ...of, message: of.message } as ErrorText);
  return (
    <div class="trouble" role="alert">
      <Icon name="warn" />
      <div>
        <p>
          {whose && `${whose}: `}
          {of instanceof TypeError ? t("serverGone") : said(message)}
        </p>
        {causes?.map((cause) => (
          <p key={cause} class="soft">
            {said(cause)}
          </p>
        ))}
        {hint && (
          <p>
            <strong>{t("hint")}</strong> {said(hint)}
          </p>
        )}
      </div>
    </div>
  );
}

export function Badge({ kind, children }: { kind: "good" | "warn" | "bad" | "busy" | "plain"; children: ComponentChildren }) {
  return <span class={`badge ${kind}`}>{children}</span>;
}

export function Meter({ share, label }: { share: number | null; label: string }) {
  return share === null ? <progress aria-label={label} /> : <progress aria-label={label} max={1} value={share} />;
}

/** A button that does something on the server, and says so where it fails. */
export function Act({
  act,
  icon,
  children,
  class: more = "",
  sure,
  disabled,
}: {
  act: () => Promise<unknown> | void;
  icon?: IconName;
  children: ComponentChildren;
  class?: string;
  /** A question to be answered with yes first. */
  sure?: string;
  disabled?: boolean;
}) {
  const [state, set] = useState<{ busy?: boolean; error?: Error }>({});
  const run = async () => {
    if (sure && !confirm(sure)) return;
    set({ busy: true });
    try {
      await act();
      set({});
    } catch (error) {
      set({ error: error as Error });
    }
  };
  return (
    <>
      <button type="button" class={more} disabled={disabled || state.busy} onClick={run}>
        {icon && <Icon name={icon} />}
        {children}
      </button>
      <Trouble of={state.error} />
    </>
  );
}

export function Tabs<T extends string>({
  names,
  at,
  go,
}: {
  names: { id: T; name: Key; note?: string | number }[];
  at: T;
  go: (id: T) => void;
}) {
  const list = useRef<HTMLDivElement>(null);
  const move = (event: JSX.TargetedKeyboardEvent<HTMLDivElement>) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!by) return;
    const i = (names.findIndex((name) => name.id === at) + by + names.length) % names.length;
    go(names[i]!.id);
    list.current?.querySelectorAll<HTMLElement>("[role=tab]")[i]?.focus();
  };
  return (
    <div class="tabs" role="tablist" ref={list} onKeyDown={move}>
      {names.map(({ id, name, note }) => (
        <button
          key={id}
          type="button"
          role="tab"
          aria-selected={id === at}
          tabIndex={id === at ? 0 : -1}
          onClick={() => go(id)}
        >
          {t(name)}
          {note !== undefined && <span class="count">{note}</span>}
        </button>
      ))}
    </div>
  );
}

/** A dialog over the page; Escape closes it and the focus goes back to where it was. */
export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const here = dialog.current;
    if (here && !here.open) here.showModal();
  }, []);
  return (
    <dialog ref={dialog} onClose={close} aria-label={title}>
      <div class="title">
        <h2>{title}</h2>
        <button type="button" class="quiet" aria-label={t("close")} onClick={() => dialog.current?.close()}>
          <Icon name="cross" />
        </button>
      </div>
      {children}
    </dialog>
  );
}

/** Takes files that are dropped on it, or chosen. */
export function Drop({
  children,
  take,
  accept,
  button,
}: {
  children: ComponentChildren;
  take: (transfer: DataTransfer | FileList) => void;
  accept?: string;
  button: string;
}) {
  const [over, set] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  return (
    <div
      class={`drop ${over ? "over" : ""}`}
      onDragOver={(event) => {
        event.preventDefault();
        set(true);
      }}
      onDragLeave={() => set(false)}
      onDrop={(event) => {
        event.preventDefault();
        set(false);
        if (event.dataTransfer) take(event.dataTransfer);
      }}
    >
      {children}
      <button type="button" onClick={() => input.current?.click()}>
        <Icon name="up" />
        {button}
      </button>
      <input
        ref={input}
        type="file"
        hidden
        accept={accept}
        onChange={(event) => {
          const files = event.currentTarget.files;
          if (files?.length) take(files);
          event.currentTarget.value = "";
        }}
      />
    </div>
  );
}

export function Loading() {
  return (
    <p class="loading" role="status">
      {t("loading")}
    </p>
  );
}

export function Facts({ of }: { of: [ComponentChildren, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {of.map(([name, value], i) => (
        <div key={i}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
