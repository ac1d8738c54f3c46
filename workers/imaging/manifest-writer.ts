/** Writes the manifest of a version: one JSON object per line, sorted by key. */
import { createReadStream, createWriteStream } from 'node:fs';
import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import type { ArtifactStore, StoredBytes } from '../../src/platform/artifact-store/index.ts';
import type { PreparedImage } from './decoder/prepare.ts';

export interface ManifestLine {
  readonly key: string;
  /** Of the encoded bytes, lower-case hex. */
  readonly sha256: string;
  readonly label: string | null;
  /** Patient or slide; null if unknown. */
  readonly group: string | null;
  readonly split: string | null;
  readonly width: number;
  readonly height: number;
  /** Index of the shard. */
  readonly shard: number;
  readonly byteSize: number;
  /** Relative to the imported folder, with `/` between its parts. */
  readonly sourcePath: string;
  /** Only patches have this field, so that whole images keep the digest that they had before it was added. */
  readonly cutFrom: PreparedImage['cutFrom'];
  /** Only images that had a profile have this field. */
  readonly profile: PreparedImage['profile'];
}

export interface ManifestWriter {
  /** Keys come in order. */
  write(line: ManifestLine): Promise<void>;
  /**
   * Its sha256 is the digest of the version, so nothing in it depends on the machine, the time, or the order on disk.
   */
  store(artifacts: Pick<ArtifactStore, 'put'>): Promise<StoredBytes>;
  abandon(): Promise<void>;
}

/** Collects lines in a file, because a million of them do not fit in memory. */
export function createManifestWriter(filePath: string): ManifestWriter {
  const stream = createWriteStream(filePath, { flags: 'wx', highWaterMark: 1024 * 1024 });
  // A failure is reported by the next write, or by store().
  stream.on('error', () => undefined);
  return {
    write: async ({ cutFrom, profile, ...facts }) => {
      if (stream.errored !== null) throw stream.errored;
      const { key, sha256, label, group, split, width, height, shard, byteSize, sourcePath } = facts;
      const line = JSON.stringify({
        ...{ key, sha256, label, group, split, width, height, shard, byteSize, sourcePath },
        ...cutFrom,
        ...(profile === null
          ? {}
          : { sourceProfileSha256: profile.sha256, profileChangedPixels: profile.changesPixels }),
      });
      if (!stream.write(`${line}\n`)) await once(stream, 'drain');
    },
    store: async (artifacts) => {
      stream.end();
      await finished(stream);
      return artifacts.put(createReadStream(filePath));
    },
    abandon: async () => {
      if (stream.closed) return;
      // Not events.once: a write that is interrupted when the stream is destroyed ends in an error event, which would
      // hide why the import failed.
      await new Promise<void>((resolve) => stream.once('close', resolve).destroy());
    },
  };
}
