/**
 * An upload that this machine started: its address at the server, kept in a file of the cache, so that the repeated
 * command resumes it.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { readEnvironment } from '../../env.ts';

const ADDRESS = /^\/uploads\/[0-9a-f]{32}$/;

export interface UnfinishedUpload {
  /** The path of the upload, if this machine started one; the server may have deleted it since. */
  readUnfinished(): Promise<string | undefined>;
  /** If the cache cannot be written, a repeated command starts again. */
  writeUnfinished(at: string): Promise<void>;
  forget(): Promise<void>;
}

/** The upload of the file with this digest to this server. */
export function unfinishedUpload(serverUrl: string, sha256: string): UnfinishedUpload {
  const folder = readEnvironment().uploadCacheDir;
  const file = path.join(folder, createHash('sha256').update(`${serverUrl} ${sha256}`).digest('hex'));
  return {
    readUnfinished: async () => {
      const at = await readFile(file, 'utf8').catch(() => '');
      return ADDRESS.test(at) ? at : undefined;
    },
    writeUnfinished: async (at) => {
      await mkdir(folder, { recursive: true })
        .then(() => writeFile(file, at, { mode: 0o600 }))
        .catch(() => undefined);
    },
    forget: () => rm(file, { force: true }),
  };
}
