/** Downloads from and uploads to a registry, resumed after an interruption and verified against their digest. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { CommandFailure, EXIT } from '../exit-codes.ts';
import { formatByteSize, createStatusLine, progressBar } from '../terminal.ts';
import { exitOnInterrupt } from './interruption.ts';
import { printNote } from './output.ts';
import { refusalOf, ServerRefusal, type ClientOptions, type Registry } from './connection.ts';

/** Number of consecutive interruptions without any progress after which the transfer fails. */
const MAX_ATTEMPTS_WITHOUT_PROGRESS = 5;
/** Multiplied by the number of interruptions so far: five seconds in total, enough for a server to restart. */
const RETRY_MS = 500;
const PART_ENDING = /^\.[0-9a-f]{16}\.part$/;
/** How a server aborts the download of a file whose stored bytes have changed. */
const CUT_OFF = 'The server ended the transfer because the stored bytes are damaged.';

/** Lower-case hex. */
export async function sha256Of(file: string, onBytes: (count: number) => void = () => undefined): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) {
    const bytes: Buffer = chunk;
    hash.update(bytes);
    onBytes(bytes.length);
  }
  return hash.digest('hex');
}

export interface RemoteFile {
  readonly sha256: string;
  readonly byteSize: number;
  /** The file name that the server suggests, without any folder. */
  readonly fileName: string | undefined;
}

/**
 * Facts of the file at a path of the server. Waits if the server must make the file first.
 * @throws ServerRefusal.
 */
export async function remoteFileAt(registry: Registry, options: ClientOptions, urlPath: string): Promise<RemoteFile> {
  const line = createStatusLine(process.stderr);
  for (;;) {
    const response = await registry.send(urlPath, { method: 'HEAD' });
    const sha256 = /^"([0-9a-f]{64})"$/.exec(response.headers.get('etag') ?? '')?.[1];
    if (response.ok && sha256 !== undefined) {
      line.end();
      return {
        sha256,
        byteSize: Number(response.headers.get('content-length')),
        fileName: fileNameIn(response.headers.get('content-disposition')),
      };
    }
    // An answer to HEAD has no body; GET returns the reason.
    const probe = await registry.send(urlPath, { headers: { range: 'bytes=0-0' } });
    const refusal = await refusalOf(probe);
    if (refusal?.code !== 'EXPORT_PENDING')
      throw refusal ?? new CommandFailure({ message: `${registry.url}${urlPath} answered ${response.status}.` });
    if (options.quiet !== true) line.show('The server makes and checks the file ...');
    await pause(Number(probe.headers.get('retry-after') ?? 1) * 1000);
  }
}

function fileNameIn(disposition: string | null): string | undefined {
  const exact = /filename\*=UTF-8''([^;]+)/.exec(disposition ?? '')?.[1];
  const name = exact === undefined ? /filename="([^"]+)"/.exec(disposition ?? '')?.[1] : decodeURIComponent(exact);
  return name === undefined ? undefined : path.basename(name);
}

/**
 * Downloads a file, resuming from `<out>.<first 16 digits of sha256>.part` of an earlier attempt, and renames it only
 * if its digest is right. Then deletes the partial files of earlier attempts to download other bytes to `out`.
 * @throws CommandFailure DAMAGE_FOUND if the digest is wrong; no file with the final name then exists.
 */
export async function fetchFile(
  registry: Registry,
  options: ClientOptions,
  urlPath: string,
  { sha256, byteSize }: RemoteFile,
  out: string,
): Promise<void> {
  const part = `${out}.${sha256.slice(0, 16)}.part`;
  const line = createStatusLine(process.stderr);
  const hash = createHash('sha256');
  let have = await stat(part).then(
    (found) => found.size,
    () => 0,
  );
  if (have > byteSize) {
    await rm(part);
    have = 0;
  }
  if (have > 0)
    for await (const chunk of createReadStream(part, { highWaterMark: 1 << 20 })) hash.update(bufferOf(chunk));
  const began = { atMs: performance.now(), have };
  const show = (): void => {
    const perSecond = ((have - began.have) / Math.max(1, performance.now() - began.atMs)) * 1000;
    if (options.quiet !== true)
      line.show(
        `${progressBar(byteSize === 0 ? 1 : have / byteSize)} ${formatByteSize(have)} of ${formatByteSize(byteSize)}, ${formatByteSize(Math.round(perSecond))}/s`,
      );
  };
  const file = await open(part, 'a', 0o644);
  using _left = exitOnInterrupt(
    () => `The download stopped at ${formatByteSize(have)}. Run the same command again to continue.`,
    line,
  );
  try {
    for (let attemptsWithoutProgress = 0; have < byteSize;) {
      const before = have;
      try {
        const response = await registry.send(urlPath, {
          headers: { range: `bytes=${have}-`, 'if-match': `"${sha256}"` },
        });
        if (!response.ok)
          throw (
            (await refusalOf(response)) ??
            new CommandFailure({ message: `${registry.url}${urlPath} answered ${response.status}.` })
          );
        if (response.status !== 206 || response.body === null)
          throw new CommandFailure({
            message: `${registry.url} does not send parts of files.`,
            hint: 'Check whether a proxy in front of the server removes Range requests.',
          });
        for await (const chunk of response.body) {
          await file.appendFile(chunk);
          hash.update(chunk);
          have += chunk.length;
          show();
        }
      } catch (error) {
        if (error instanceof ServerRefusal && error.code === 'ARTIFACT_CORRUPT')
          throw new CommandFailure({ exitCode: EXIT.DAMAGE_FOUND, message: error.message, hint: error.hint });
        attemptsWithoutProgress = have > before ? 0 : attemptsWithoutProgress + 1;
        if (error instanceof ServerRefusal || attemptsWithoutProgress >= MAX_ATTEMPTS_WITHOUT_PROGRESS) {
          throw error instanceof CommandFailure
            ? error
            : new CommandFailure({
                message: `The download was interrupted at ${formatByteSize(have)}.`,
                hint: 'Run the same command again to continue.',
              });
        }
        await pause(RETRY_MS * attemptsWithoutProgress);
      }
    }
    await file.sync();
  } finally {
    await file.close();
    line.end();
  }
  const found = hash.digest('hex');
  if (found !== sha256) {
    await rm(part);
    throw new CommandFailure({
      exitCode: EXIT.DAMAGE_FOUND,
      message: `The received file has the sha256 ${found}, not ${sha256}.`,
      hint: 'The file was deleted. Try again; if this happens again, ask the administrator to run "paraffin fsck" on the server.',
    });
  }
  await rename(part, out);
  await removeOtherParts(out);
}

/** Partial files that no later attempt will resume, for example of the previous champion. */
async function removeOtherParts(out: string): Promise<void> {
  const [folder, name] = [path.dirname(out), path.basename(out)];
  for (const found of await readdir(folder))
    if (found.startsWith(`${name}.`) && PART_ENDING.test(found.slice(name.length)))
      await rm(path.join(folder, found), { force: true });
}

/**
 * Downloads an artifact and compares it with its sha256.
 * @param onBytes awaited after each piece.
 * @returns a description of the fault, or undefined.
 */
export async function damageOf(
  registry: Registry,
  sha256: string,
  onBytes: (bytes: Uint8Array) => void | Promise<void>,
): Promise<string | undefined> {
  const response = await registry.send(`/artifacts/${sha256}`).catch(async () => {
    // The server aborts a small damaged file before its first byte, which looks the same as a server that has stopped.
    await registry.send('/healthz');
    return undefined;
  });
  if (response === undefined) return CUT_OFF;
  if (!response.ok || response.body === null)
    return (await refusalOf(response))?.message ?? `The server answered ${response.status}.`;
  const hash = createHash('sha256');
  try {
    for await (const chunk of response.body) {
      hash.update(chunk);
      await onBytes(chunk);
    }
  } catch {
    return CUT_OFF;
  }
  const found = hash.digest('hex');
  return found === sha256 ? undefined : `The received file has the sha256 ${found}.`;
}

export interface SentFile {
  /** The id of the upload at the server. */
  readonly uploadId: string;
  /** Call this when the server has used the upload; until then a repeated command reuses it. */
  forget(): Promise<void>;
}

/**
 * Uploads bytes by the tus protocol; resumes after an interruption, and continues an upload of an earlier attempt of
 * the same command.
 *
 * This is our own tus client: of tus-js-client we would have to replace the HTTP layer (keys, and errors with their
 * codes), the fingerprint (a digest, not the file's path and time) and the storage, and it would add 20 packages for
 * the remaining loop.
 */
export async function upload(
  registry: Registry,
  options: ClientOptions,
  { name, blob }: { readonly name: string; readonly blob: Blob },
): Promise<SentFile> {
  const line = createStatusLine(process.stderr);
  using _left = exitOnInterrupt(() => 'The upload was interrupted. Run the same command again to continue.', line);
  const { size } = blob;
  const hash = createHash('sha256');
  for await (const chunk of blob.stream()) hash.update(chunk);
  const sha256 = hash.digest('hex');
  const { unfinishedUpload } = await import('./unfinished-upload.ts');
  const unfinished = unfinishedUpload(registry.url, sha256);
  const before = await uploadedBytes(registry, await unfinished.readUnfinished(), size);
  if (before !== undefined)
    printNote(options, `The upload continues at ${formatByteSize(before.offset)} of ${formatByteSize(size)}.`);
  const at = before?.at ?? (await beginUpload(registry, name, size, sha256));
  await unfinished.writeUnfinished(at);
  for (let offset = before?.offset ?? 0, attemptsWithoutProgress = 0; offset < size;) {
    if (options.quiet !== true)
      line.show(`${progressBar(offset / size)} ${formatByteSize(offset)} of ${formatByteSize(size)}`);
    const sent = await registry
      .send(at, {
        method: 'PATCH',
        headers: { ...TUS, 'upload-offset': String(offset), 'content-type': 'application/offset+octet-stream' },
        body: blob.slice(offset, offset + UPLOAD_CHUNK_BYTES),
      })
      .catch(() => undefined);
    const refusal = sent === undefined || sent.ok ? undefined : await refusalOf(sent);
    if (refusal !== undefined) throw refusal;
    const reached =
      sent?.ok === true ? Number(sent.headers.get('upload-offset') ?? offset) : await offsetAt(registry, at);
    attemptsWithoutProgress = reached !== undefined && reached > offset ? 0 : attemptsWithoutProgress + 1;
    if (reached === undefined || attemptsWithoutProgress >= MAX_ATTEMPTS_WITHOUT_PROGRESS)
      throw new CommandFailure({
        message: `The upload was interrupted at ${formatByteSize(offset)}.`,
        hint: 'Run the same command again to continue.',
      });
    await pause(RETRY_MS * attemptsWithoutProgress);
    offset = reached;
  }
  if (options.quiet !== true) line.show(`${progressBar(1)} ${formatByteSize(size)}`);
  line.end();
  return { uploadId: path.posix.basename(at), forget: unfinished.forget };
}

const TUS = { 'tus-resumable': '1.0.0' };

/** The offset of an upload that this machine started earlier; undefined if the server no longer has it. */
async function uploadedBytes(
  registry: Registry,
  at: string | undefined,
  size: number,
): Promise<{ readonly at: string; readonly offset: number } | undefined> {
  if (at === undefined) return undefined;
  const { ok, headers } = await registry.send(at, { method: 'HEAD', headers: TUS });
  return ok && Number(headers.get('upload-length')) === size
    ? { at, offset: Number(headers.get('upload-offset')) }
    : undefined;
}

/** @returns the path of the new upload. */
async function beginUpload(registry: Registry, fileName: string, size: number, sha256: string): Promise<string> {
  const encode = (text: string): string => Buffer.from(text).toString('base64');
  const begun = await registry.send('/uploads', {
    method: 'POST',
    headers: {
      ...TUS,
      'upload-length': String(size),
      'upload-metadata': `filename ${encode(fileName)},sha256 ${encode(sha256)}`,
    },
  });
  const at = begun.headers.get('location');
  if (begun.ok && at !== null) return at;
  throw (
    (await refusalOf(begun)) ?? new CommandFailure({ message: `${registry.url}/uploads answered ${begun.status}.` })
  );
}

/**
 * The offset of an upload. Retried until the server answers, because the server refuses bytes sent from any other
 * offset.
 * @returns undefined if the server does not answer for long enough.
 */
async function offsetAt(registry: Registry, at: string): Promise<number | undefined> {
  for (let attempt = 1; attempt <= MAX_ATTEMPTS_WITHOUT_PROGRESS; attempt += 1) {
    // The first request may still use a connection that is being closed.
    const answer = await registry.send(at, { method: 'HEAD', headers: TUS }).catch(() => undefined);
    const offset = answer?.headers.get('upload-offset');
    if (offset != null) return Number(offset);
    await pause(RETRY_MS * attempt);
  }
  return undefined;
}

/** Small enough to show progress, large enough that the requests cost little time. */
const UPLOAD_CHUNK_BYTES = 32 * 1024 * 1024;

function bufferOf(chunk: unknown): Buffer {
  if (Buffer.isBuffer(chunk)) return chunk;
  throw new TypeError('Reading the file returned something other than bytes.');
}
