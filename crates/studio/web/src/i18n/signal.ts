// A value that components can follow.
import { useEffect, useState } from "preact/hooks";

export interface Signal<T> {
  get: () => T;
  set: (value: T) => void;
  follow: (call: () => void) => () => void;
}

export function signal<T>(value: T): Signal<T> {
  const calls = new Set<() => void>();
  return {
    get: () => value,
    set: (next) => {
      value = next;
      for (const call of [...calls]) call();
    },
    follow: (call) => {
      calls.add(call);
      return () => void calls.delete(call);
    },
  };
}

export function useSignal<T>(of: Signal<T>): T {
  const [, again] = useState(0);
  useEffect(() => of.follow(() => again((n) => n + 1)), [of]);
  return of.get();
}
