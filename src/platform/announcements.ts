/**
 * Distributes PostgreSQL notifications (LISTEN) to listeners over one connection per process, which is reopened when it
 * breaks.
 */
import { Client } from 'pg';

export interface Announcements {
  /** @returns a function that removes the listener. */
  subscribe(payload: string, listener: () => void): () => void;
  close(): Promise<void>;
}

const RECONNECT_MS = 1_000;

/**
 * Connects and listens on one channel; a listener is subscribed to one payload.
 * @param onError called when the connection breaks, and for each failed attempt to reopen it.
 * @throws Error if the first connection fails.
 */
export async function listenForAnnouncements(
  databaseUrl: string,
  channel: string,
  onError: (error: Error) => void,
): Promise<Announcements> {
  const listeners = new Map<string, Set<() => void>>();
  let client: Client | undefined;
  let closed = false;
  let retry: NodeJS.Timeout | undefined;

  const connect = async (): Promise<void> => {
    const next = new Client({ connectionString: databaseUrl, keepAlive: true });
    next.on('notification', (message) => {
      for (const listener of listeners.get(message.payload ?? '') ?? []) listener();
    });
    next.on('error', (error) => {
      client = undefined;
      if (closed) return;
      onError(error);
      retry = setTimeout(() => void reconnect(), RECONNECT_MS);
    });
    await next.connect();
    client = next;
    await next.query(`LISTEN ${next.escapeIdentifier(channel)}`);
    // `close` was called while this connection was being opened, and could not close it.
    if (closed) await next.end();
  };
  const reconnect = async (): Promise<void> => {
    try {
      await connect();
      // Notifications may have been missed while the connection was down, so every listener is called once.
      for (const group of listeners.values()) for (const listener of group) listener();
    } catch (error) {
      onError(error instanceof Error ? error : new Error(String(error)));
      if (!closed) retry = setTimeout(() => void reconnect(), RECONNECT_MS);
    }
  };
  await connect();
  return {
    subscribe: (payload, listener) => {
      const group = listeners.get(payload) ?? new Set();
      listeners.set(payload, group.add(listener));
      return () => {
        group.delete(listener);
        if (group.size === 0) listeners.delete(payload);
      };
    },
    close: async () => {
      closed = true;
      clearTimeout(retry);
      await client?.end();
    },
  };
}
