/** What the screen is like. */
import { useSyncExternalStore } from 'react';

/** @param query of CSS, e.g. `(max-width: 900px)`. */
export function useMedia(query: string): boolean {
  return useSyncExternalStore(
    (listener) => {
      const list = matchMedia(query);
      list.addEventListener('change', listener);
      return () => list.removeEventListener('change', listener);
    },
    () => matchMedia(query).matches,
  );
}
