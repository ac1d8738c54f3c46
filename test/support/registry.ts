/** The services over a test database, wired as the server wires them, without HTTP. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Services } from '../../src/api/context.ts';
import { RUN_JOBS } from '../../src/jobs/index.ts';
import type { Viewer } from '../../src/modules/access/index.ts';
import { createLedger, RUN_EVENTS_CHANNEL, type RunLedger } from '../../src/modules/runs/index.ts';
import { listenForAnnouncements } from '../../src/platform/announcements.ts';
import { openArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { openQueue, type Queue } from '../../src/platform/queue.ts';
import { openUploadStore } from '../../src/platform/upload-store.ts';
import { createServices } from '../../src/services.ts';
import { artifactPlaceOf } from './artifact-place.ts';
import type { TestDatabase } from './database.ts';
import { keyHolder } from './viewers.ts';

export interface TestRegistry extends Services {
  /** The lease that a worker would hold. */
  readonly ledger: RunLedger;
  readonly queue: Queue;
  close(): Promise<void>;
}

export const ADMIN: Viewer = keyHolder('ADMIN');

/** @param dataDir whose artifacts it uses; default: a folder that is deleted at the end. */
export async function openTestRegistry(
  { db, transact, url }: TestDatabase,
  importRoots: readonly string[],
  dataDir?: string,
): Promise<TestRegistry> {
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-registry-'));
  const queue = await openQueue({ url, jobs: Object.values(RUN_JOBS), onError: () => undefined });
  const announcements = await listenForAnnouncements(url, RUN_EVENTS_CHANNEL, () => undefined);
  const services = createServices({
    db,
    transact,
    queue,
    announcements,
    store: openArtifactStore(artifactPlaceOf(dataDir ?? folder)),
    uploads: await openUploadStore({ folder: path.join(folder, 'uploads'), maxBytes: 1_000_000 }),
    downloadsDir: path.join(folder, 'downloads'),
    importRoots,
    engineCacheDir: path.join(folder, 'engine'),
    dataDir: dataDir ?? folder,
    requireAuth: false,
    allowPrivateUrls: true,
    engineHint: () => null,
  });
  return {
    ...services,
    ledger: createLedger(db, transact),
    queue,
    close: async () => {
      await announcements.close();
      await queue.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
