/**
 * Counts the groups of versions that were sealed before unknown groups were null: there an image without a group had
 * the path of its own file as its group, and counted as one. Manifests are read in the background, one at a time; each
 * count is written immediately, so that the next start continues where this one ended.
 */
import { openManifest } from '../../formats/manifest/index.ts';
import { accessBytes } from '../../formats/random-access.ts';
import type { Transact } from '../../platform/db.ts';
import type { VersionStore } from './versions.store.ts';

export interface GroupCountParts {
  readonly versions: VersionStore;
  readonly transact: Transact;
  /** Reads an artifact whole and verifies its digest. Manifests of such versions were written as one string. */
  readonly readArtifact: (sha256: string) => Promise<Buffer>;
  /** Called for a missing or damaged manifest: its version stays uncounted. */
  readonly onUnreadable: (versionId: string, error: unknown) => void;
}

const PAGE_SIZE = 100;

/** @returns the number of versions that were counted. */
export async function fillGroupCounts(
  { versions, transact, readArtifact, onUnreadable }: GroupCountParts,
  signal: AbortSignal,
): Promise<number> {
  let filledCount = 0;
  for (let after: string | undefined; ;) {
    const page = await versions.withoutGroupCount(after, PAGE_SIZE);
    for (const { id, manifestSha256, imageCount } of page) {
      if (signal.aborted) return filledCount;
      try {
        const manifest = await openManifest(accessBytes(await readArtifact(manifestSha256)), {
          imageCount,
          shardByteSizes: [],
        });
        const { group } = await manifest.read(['group']);
        const ungroupedImageCount = group.codes.reduce((count, code) => (code < 0 ? count + 1 : count), 0);
        await transact((tx) =>
          versions.fillGroupCount(tx, id, { groupCount: group.values.length, ungroupedImageCount }),
        );
        filledCount += 1;
      } catch (error) {
        onUnreadable(id, error);
      }
    }
    if (page.length < PAGE_SIZE) return filledCount;
    after = page.at(-1)?.id;
  }
}
