/** The patches of a slide, read from the manifest of its version. */
import { buffer } from 'node:stream/consumers';
import { openManifest, type ColumnName, type ManifestRows } from '../../formats/manifest/index.ts';
import type { RandomAccess } from '../../formats/random-access.ts';
import type { ArtifactStore } from '../../platform/artifact-store/index.ts';
import type { Database } from '../../platform/db.ts';
import { createTurns } from '../../in-turn.ts';
import { authorise, type Viewer } from '../access/index.ts';
import type { SlidePatchesRecord, SlideRecord } from './datasets.records.ts';
import { createSlideStore } from './slides.store.ts';
import { createVersionStore } from './versions.store.ts';

export interface SlidePatchService {
  /** Where they lie, and their labels, in the order of the version. Throws ManifestError for a damaged manifest. */
  of(viewer: Viewer, slide: SlideRecord): Promise<SlidePatchesRecord>;
  /** `[N]`: their keys in the version, in the same order. Throws ManifestError for a damaged manifest. */
  keysOf(viewer: Viewer, slide: SlideRecord): Promise<string[]>;
  /** The row of the first of them in the version, from 0; the manifest is not read. */
  firstRowOf(viewer: Viewer, slide: SlideRecord): Promise<number>;
}

export interface SlidePatchParts {
  readonly db: Database;
  readonly store: Pick<ArtifactStore, 'open' | 'stat'>;
}

export function createSlidePatchService({ db, store }: SlidePatchParts): SlidePatchService {
  const slides = createSlideStore(db);
  const versions = createVersionStore(db);
  /** One manifest at a time, because decoding one keeps a core busy. */
  const inTurn = createTurns();

  // An import lists its images slide by slide, in the order of the slides.
  const firstRowOf = ({ versionId, position }: SlideRecord): Promise<number> =>
    slides.patchesBefore(versionId, position);

  /**
   * Calls `take` for each row of the slide, in order.
   * @returns the row of the first one; 0 for a slide without patches.
   */
  const read = async <Name extends ColumnName>(
    slide: SlideRecord,
    names: readonly Name[],
    take: (columns: ManifestRows<Name | 'slide'>['columns'], row: number) => void,
  ): Promise<number> => {
    const { versionId, position, path, patchCount } = slide;
    const [version] = patchCount === 0 ? [] : await versions.findSealed([versionId]);
    if (version === undefined) return 0;
    const { imageCount, manifestSha256, shards } = version;
    const shardByteSizes = shards.map(({ byteSize }) => byteSize);
    const byteSize = (await store.stat(manifestSha256))?.byteSize ?? 0;
    const manifest = await openManifest(accessArtifact(store, manifestSha256, byteSize), {
      imageCount,
      shardByteSizes,
    });
    const firstRow = await firstRowOf(slide);
    let taken = 0;
    for await (const block of manifest.rows<Name | 'slide'>(['slide', ...names], firstRow)) {
      for (let row = Math.max(0, firstRow - block.firstRow); row < block.rowCount && taken < patchCount; row += 1) {
        if (block.columns.slide.at(row) !== path)
          throw new Error(`Row ${block.firstRow + row} of version ${versionId} is not of slide ${position}.`);
        take(block.columns, row);
        taken += 1;
      }
      if (taken === patchCount) break;
    }
    return firstRow;
  };

  return {
    of: (viewer, slide) => {
      authorise(viewer, 'READER');
      return inTurn(async () => {
        const [x, y]: [number[], number[]] = [[], []];
        const labels: (number | null)[] = [];
        const placeOf = new Map<string, number>();
        let [width, height] = [0, 0];
        const names = ['x', 'y', 'level0Width', 'level0Height', 'label'] as const;
        const firstRow = await read(slide, names, (columns, row) => {
          x.push(columns.x[row] ?? 0);
          y.push(columns.y[row] ?? 0);
          width = columns.level0Width[row] ?? 0;
          height = columns.level0Height[row] ?? 0;
          const label = columns.label.at(row);
          if (label !== null && !placeOf.has(label)) placeOf.set(label, placeOf.size);
          labels.push(label === null ? null : (placeOf.get(label) ?? null));
        });
        return { firstRow, width, height, x, y, labelNames: [...placeOf.keys()], labels };
      });
    },
    keysOf: (viewer, slide) => {
      authorise(viewer, 'READER');
      return inTurn(async () => {
        const keys: string[] = [];
        await read(slide, ['key'], (columns, row) => keys.push(columns.key.at(row) ?? ''));
        return keys;
      });
    },
    firstRowOf: (viewer, slide) => {
      authorise(viewer, 'READER');
      return firstRowOf(slide);
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
