/** Where the patches of a slide lie, read from the manifest of its version. */
import { buffer } from 'node:stream/consumers';
import { openManifest } from '../../formats/manifest/index.ts';
import type { RandomAccess } from '../../formats/random-access.ts';
import type { ArtifactStore } from '../../platform/artifact-store/index.ts';
import type { Database } from '../../platform/db.ts';
import { authorise, type Viewer } from '../access/index.ts';
import type { SlidePatchesRecord, SlideRecord } from './datasets.records.ts';
import { createSlideStore } from './slides.store.ts';
import { createVersionStore } from './versions.store.ts';

export interface SlidePatchService {
  /** In the order of the version. Throws ManifestError for a manifest that cannot be read. */
  of(viewer: Viewer, slide: SlideRecord): Promise<SlidePatchesRecord>;
}

export interface SlidePatchParts {
  readonly db: Database;
  readonly store: Pick<ArtifactStore, 'open' | 'stat'>;
}

export function createSlidePatchService({ db, store }: SlidePatchParts): SlidePatchService {
  const slides = createSlideStore(db);
  const versions = createVersionStore(db);
  /** Ends with the reading of the last manifest: one at a time, because decoding one keeps a core busy. */
  let turn: Promise<unknown> = Promise.resolve();

  const read = async ({ versionId, position, path, patchCount }: SlideRecord): Promise<SlidePatchesRecord> => {
    const [x, y]: [number[], number[]] = [[], []];
    let [width, height] = [0, 0];
    const [version] = patchCount === 0 ? [] : await versions.findSealed([versionId]);
    if (version === undefined) return { firstRow: 0, width, height, x, y };
    const { imageCount, manifestSha256, shards } = version;
    const shardByteSizes = shards.map(({ byteSize }) => byteSize);
    const byteSize = (await store.stat(manifestSha256))?.byteSize ?? 0;
    const manifest = await openManifest(accessArtifact(store, manifestSha256, byteSize), {
      imageCount,
      shardByteSizes,
    });
    // An import lists its images slide by slide, in the order of the slides.
    const firstRow = await slides.patchesBefore(versionId, position);
    const names = ['slide', 'x', 'y', 'level0Width', 'level0Height'] as const;
    for await (const block of manifest.rows(names, firstRow)) {
      const { columns } = block;
      for (let row = Math.max(0, firstRow - block.firstRow); row < block.rowCount && x.length < patchCount; row += 1) {
        if (columns.slide.at(row) !== path)
          throw new Error(`Row ${block.firstRow + row} of version ${versionId} is not of slide ${position}.`);
        x.push(columns.x[row] ?? 0);
        y.push(columns.y[row] ?? 0);
        width = columns.level0Width[row] ?? 0;
        height = columns.level0Height[row] ?? 0;
      }
      if (x.length === patchCount) break;
    }
    return { firstRow, width, height, x, y };
  };

  return {
    of: (viewer, slide) => {
      authorise(viewer, 'READER');
      const reading = turn.then(() => read(slide));
      turn = reading.catch(() => undefined);
      return reading;
    },
  };
}

function accessArtifact(store: Pick<ArtifactStore, 'open'>, sha256: string, byteSize: number): RandomAccess {
  return {
    byteSize,
    read: async (offset, length, into = new Uint8Array(length)) => {
      const last = Math.min(byteSize, offset + length) - 1;
      if (last < offset) return into.subarray(0, 0);
      const bytes = await buffer(await store.open(sha256, { first: offset, last }));
      into.set(bytes);
      return bytes.length === into.length ? into : into.slice(0, bytes.length);
    },
  };
}
