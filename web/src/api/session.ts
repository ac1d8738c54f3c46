/** The user's API key: kept for this browser tab only, and deleted with it. */

const STORAGE_KEY = 'paraffin-key';
const listeners = new Set<() => void>();

export function readKey(): string | null {
  return sessionStorage.getItem(STORAGE_KEY);
}

/** @param key null signs out. */
export function writeKey(key: string | null): void {
  if (key === null) sessionStorage.removeItem(STORAGE_KEY);
  else sessionStorage.setItem(STORAGE_KEY, key);
  for (const listener of listeners) listener();
}

/** Tells the listener of each change. @returns a function that ends it. */
export function onKeyChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function authorization(key = readKey()): Record<string, string> {
  return key === null ? {} : { authorization: `Bearer ${key}` };
}
