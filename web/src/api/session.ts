/**
 * Signing in with a key, and out. The session is in a cookie that no page can read, and the key is kept nowhere: pages
 * know no more than that something has changed, in this tab or in another.
 */
import { ApiError } from './client.ts';

const listeners = new Set<() => void>();
const otherTabs = new BroadcastChannel('paraffin-session');
let changeCount = 0;

function change(): void {
  changeCount += 1;
  for (const listener of listeners) listener();
}

otherTabs.onmessage = change;

/** Another number after each change: what was fetched before belongs to somebody else. */
export function sessionNumber(): number {
  return changeCount;
}

/** Tells the listener of each change. @returns a function that ends it. */
export function onSessionChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** @throws ApiError for a key that opens nothing here, or when the server does not answer. */
export async function signIn(key: string): Promise<void> {
  // No header can carry anything else.
  if (!/^[!-~]+$/.test(key))
    throw new ApiError({ code: 'BAD_INPUT', message: 'The text is not a key.', hint: 'A key begins with pfn_.' });
  await ask({ method: 'POST', headers: { authorization: `Bearer ${key}` } });
  announce();
}

/** A session that has ended meanwhile is as good. */
export async function signOut(): Promise<void> {
  await ask({ method: 'DELETE' }).catch((error: unknown) => {
    if (!(error instanceof ApiError) || error.code !== 'UNAUTHENTICATED') throw error;
  });
  announce();
}

function announce(): void {
  change();
  otherTabs.postMessage(null);
}

async function ask(init: RequestInit): Promise<void> {
  const response = await fetch('/session', init).catch(() => {
    throw new ApiError({
      code: 'UNREACHABLE',
      message: 'The server does not answer.',
      hint: 'Check that the server is running (npm start), then try again.',
    });
  });
  if (response.ok) return;
  const said: unknown = await response.json().catch(() => undefined);
  const textOf = (name: string): string | null => {
    const value: unknown = typeof said === 'object' && said !== null ? Reflect.get(said, name) : undefined;
    return typeof value === 'string' ? value : null;
  };
  throw new ApiError({
    code: textOf('code') ?? 'INTERNAL',
    message: textOf('message') ?? `The server answered with status ${response.status}.`,
    hint: textOf('hint'),
    requestId: textOf('requestId'),
  });
}
