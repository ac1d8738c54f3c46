/** HTTP requests from any address of loopback: requests without a key are counted by address. */
import { Agent, request } from 'node:http';

export interface Request {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
  /** In 127.0.0.0/8, except 127.0.0.1. */
  readonly from?: string;
}

export interface Answer {
  readonly status: number;
  readonly text: string;
}

const MAX_SOCKETS = 32;
/** The machine may be busy with other work; after this time no answer is expected. */
const ANSWER_MS = 60_000;

/** Keeps its connections; one agent per attack, closed with it. */
export interface Requests {
  /** @throws Error of the connection, or if no answer came within the deadline. */
  send(port: number, request: Request): Promise<Answer>;
  close(): void;
}

export function openRequests(): Requests {
  const agent = new Agent({ keepAlive: true, maxSockets: MAX_SOCKETS });
  const send = (port: number, wanted: Request): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const { method = 'GET', path, headers = {}, body, from } = wanted;
      const options = { host: '127.0.0.1', port, method, path, headers, agent, timeout: ANSWER_MS };
      const outgoing = request({ ...options, ...(from === undefined ? {} : { localAddress: from }) }, (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('error', reject);
        incoming.once('end', () =>
          resolve({ status: incoming.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
        );
      });
      outgoing.once('timeout', () => outgoing.destroy(new Error(`${method} ${path.slice(0, 80)} was not answered.`)));
      outgoing.on('error', (error) => {
        // The server was just closing this connection as idle: sent once more (RFC 9112, 9.3.1).
        if (outgoing.reusedSocket && 'code' in error && error.code === 'ECONNRESET') resolve(send(port, wanted));
        else reject(error);
      });
      outgoing.end(body);
    });
  return { send, close: () => agent.destroy() };
}

/** The text as JSON; undefined if it is not JSON. */
export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
