/** Media queries of CSS, as a React hook. */
import { useSyncExternalStore } from 'react';

/** @param query a CSS media query, e.g. `(max-width: 900px)`. */
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
