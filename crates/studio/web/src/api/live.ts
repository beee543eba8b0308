// What happens on the server, as it happens; and data that load themselves anew when it does.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { type Event, get } from "./client";

type Listener = (event: Event) => void;
const listeners = new Set<Listener>();
let source: EventSource | undefined;

function open() {
  if (source) return;
  source = new EventSource("/api/events");
  let lost = false;
  source.onmessage = (message) => {
    const event = JSON.parse(message.data as string) as Event;
    for (const listener of [...listeners]) listener(event);
  };
  source.onerror = () => {
    lost = true;
  };
  source.onopen = () => {
    // After a gap nobody knows what was missed.
    if (lost) for (const listener of [...listeners]) listener({ type: "behind" });
    lost = false;
  };
}

/** Calls `listener` for every event while the component is shown. */
export function useEvents(listener: Listener) {
  const current = useRef(listener);
  current.current = listener;
  useEffect(() => {
    open();
    const call: Listener = (event) => current.current(event);
    listeners.add(call);
    return () => void listeners.delete(call);
  }, []);
}

export interface Loaded<T> {
  data: T | undefined;
  error: Error | undefined;
  reload: () => void;
}

/** Loads `path`, and again on each event that `concerns` it; `null` loads nothing. */
export function useData<T>(path: string | null, concerns: (event: Event) => boolean = () => false): Loaded<T> {
  const [state, set] = useState<{ path: string | null; data?: T; error?: Error }>({ path });
  const turn = useRef(0);
  const reload = useCallback(() => {
    if (path === null) return;
    const mine = ++turn.current;
    get<T>(path).then(
      (data) => mine === turn.current && set({ path, data }),
      (error: Error) => mine === turn.current && set({ path, error }),
    );
  }, [path]);
  useEffect(reload, [reload]);
  useEvents((event) => {
    if (event.type === "behind" || concerns(event)) reload();
  });
  const fresh = state.path === path;
  return { data: fresh ? state.data : undefined, error: fresh ? state.error : undefined, reload };
}
