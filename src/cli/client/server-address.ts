/** Which server a client verb talks to, and with which key. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { readEnvironment } from '../../env.ts';
import { CommandFailure, EXIT } from '../exit-codes.ts';

const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;

/** @param given the value of --url; it outdoes PARAFFIN_URL, and that the server of this machine. */
export async function serverOf(
  given: string | undefined,
): Promise<{ readonly address: string; readonly key: string | undefined }> {
  const env = readEnvironment();
  const wanted = given ?? env.url ?? `http://127.0.0.1:${env.port}`;
  const url = URL.parse(wanted);
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new CommandFailure({
      exitCode: EXIT.MISUSED,
      message: `${wanted} is not an http or https address.`,
      hint: 'For example --url http://127.0.0.1:4000',
    });
  // The key of this machine's registry is nobody else's to see.
  const ownKey = LOOPBACK.test(url.hostname)
    ? await readFile(path.join(env.dataDir, 'admin-key'), 'utf8').then(
        (text) => text.trim(),
        () => undefined,
      )
    : undefined;
  return { address: url.href.replace(/\/+$/, ''), key: env.apiKey ?? ownKey };
}
