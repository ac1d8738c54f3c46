/** Chooses the server and the key of a client command. */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { readEnvironment } from '../../env.ts';
import { ownersOfPort } from '../../platform/socket-owner.ts';
import { CommandFailure, EXIT } from '../exit-codes.ts';

const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;

/**
 * @param given the value of --url; it takes precedence over PARAFFIN_URL, and PARAFFIN_URL over the server of this
 * machine.
 * @param ownersOf returns the users that listen on a port of this machine.
 */
export async function serverOf(
  given: string | undefined,
  ownersOf = ownersOfPort,
): Promise<{ readonly address: string; readonly key: string | undefined }> {
  const env = readEnvironment();
  const wanted = given ?? env.url ?? `http://127.0.0.1:${env.port}`;
  const url = URL.parse(wanted);
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new CommandFailure({
      exitCode: EXIT.INVALID_ARGUMENTS,
      message: `${wanted} is not an http or https address.`,
      hint: 'For example --url http://127.0.0.1:4000',
    });
  const address = url.href.replace(/\/+$/, '');
  if (env.apiKey !== undefined) return { address, key: env.apiKey };
  // The key of this machine's registry must not be sent to any other server.
  return { address, key: LOOPBACK.test(url.hostname) ? await ownKeyFor(url, env.dataDir, ownersOf) : undefined };
}

/**
 * The key in the data directory, if the listening server belongs to the directory's owner: any user of this machine can
 * listen on a port, but the kernel reports the user. Undefined if there is no key or no server listens.
 * @throws CommandFailure for a server of another user.
 */
async function ownKeyFor(url: URL, dataDir: string, ownersOf: typeof ownersOfPort): Promise<string | undefined> {
  const file = path.join(dataDir, 'admin-key');
  const found = await Promise.all([readFile(file, 'utf8'), stat(file)]).catch(() => undefined);
  if (found === undefined) return undefined;
  const [key, { uid: keyOwner }] = found;
  const port = Number(url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : url.port);
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const addresses = host === 'localhost' ? ['127.0.0.1', '::1'] : [host];
  const owners = addresses.flatMap((address) => ownersOf({ address, port }));
  // Root can read the file in any case.
  const strangers = owners.filter((owner) => owner !== keyOwner && owner !== 0);
  if (strangers.length === 0) return owners.length === 0 ? undefined : key.trim();
  throw new CommandFailure({
    message: `The server at ${url.host} runs as the user ${strangers.join(', ')}, but ${file} belongs to the user ${keyOwner}, so the key is not sent to it.`,
    hint: 'Give the address of your own server by --url or PARAFFIN_URL, or a key for this server by PARAFFIN_API_KEY.',
  });
}
