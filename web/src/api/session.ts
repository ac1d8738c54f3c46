/**
 * Sign-in with a key, and sign-out. The session is in a cookie that scripts cannot read, and the key is not stored. The
 * pages are only notified that the session has changed, in this tab or another.
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

/** A number that changes with the session. Data that was fetched under another number may belong to another user. */
export function sessionNumber(): number {
  return changeCount;
}

/** Calls the listener after each change of the session. @returns a function that unsubscribes it. */
export function onSessionChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** @throws ApiError if the key is not valid, or the server does not answer. */
export async function signIn(key: string): Promise<void> {
  // A header can contain only these characters.
  if (!/^[!-~]+$/.test(key))
    throw new ApiError({ code: 'BAD_INPUT', message: 'The text is not a key.', hint: 'A key begins with pfn_.' });
  await request({ method: 'POST', headers: { authorization: `Bearer ${key}` } });
  announce();
}

/** Signs out; does nothing if the session has already ended. */
export async function signOut(): Promise<void> {
  await request({ method: 'DELETE' }).catch((error: unknown) => {
    if (!(error instanceof ApiError) || error.code !== 'UNAUTHENTICATED') throw error;
  });
  announce();
}

function announce(): void {
  change();
  otherTabs.postMessage(null);
}

async function request(init: RequestInit): Promise<void> {
  const response = await fetch('/session', init).catch(() => {
    throw new ApiError({
      code: 'UNREACHABLE',
      message: 'The server does not answer.',
      hint: 'Check that the server is running (npm start), then try again.',
    });
  });
  if (response.ok) return;
  const body: unknown = await response.json().catch(() => undefined);
  const textOf = (name: string): string | null => {
    const value: unknown = typeof body === 'object' && body !== null ? Reflect.get(body, name) : undefined;
    return typeof value === 'string' ? value : null;
  };
  throw new ApiError({
    code: textOf('code') ?? 'INTERNAL',
    message: textOf('message') ?? `The server answered with status ${response.status}.`,
    hint: textOf('hint'),
    requestId: textOf('requestId'),
  });
}
