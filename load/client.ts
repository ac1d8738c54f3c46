/** Sends one GraphQL request over HTTP, with so little overhead that the client does not distort the measurement. */
import { Agent, request } from 'node:http';

export interface Answer {
  readonly status: number;
  readonly body: string;
}

export interface LoadClient {
  /** @param headers in addition to the usual ones. Resolves with any answer of the server; rejects if there is none. */
  post(body: string, headers?: Readonly<Record<string, string>>): Promise<Answer>;
  get(path: string): Promise<Answer>;
  /**
   * Requests that were sent on a connection just when the server closed it as idle, and were repeated on another (RFC
   * 9112, 9.3.1).
   */
  repeatedCount(): number;
  close(): void;
}

const TIMEOUT_MS = 30_000;

export function createLoadClient(serverUrl: string, key: string): LoadClient {
  const agent = new Agent({ keepAlive: true, maxSockets: 512 });
  let repeatedCount = 0;
  const send = (
    path: string,
    method: string,
    body: string,
    headers: Readonly<Record<string, string>>,
    isRepeated = false,
  ): Promise<Answer> =>
    new Promise((resolve, reject) => {
      let isAnswered = false;
      const outgoing = request(
        `${serverUrl}${path}`,
        { agent, method, timeout: TIMEOUT_MS, headers: { authorization: `Bearer ${key}`, ...headers } },
        (response) => {
          isAnswered = true;
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('end', () =>
            resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
          );
          response.on('error', reject);
        },
      );
      outgoing.on('timeout', () => outgoing.destroy(new Error(`No answer within ${TIMEOUT_MS} ms.`)));
      outgoing.on('error', (error) => {
        // The server closed an idle connection while the request was on its way. All requests here are safe to repeat.
        const wasIdle = outgoing.reusedSocket && !isAnswered && 'code' in error && error.code === 'ECONNRESET';
        if (!wasIdle || isRepeated) return void reject(error);
        repeatedCount += 1;
        send(path, method, body, headers, true).then(resolve, reject);
      });
      outgoing.end(body);
    });
  return {
    post: (body, headers = {}) => send('/graphql', 'POST', body, { 'content-type': 'application/json', ...headers }),
    get: (path) => send(path, 'GET', '', {}),
    repeatedCount: () => repeatedCount,
    close: () => agent.destroy(),
  };
}
