/**
 * Reads every stored artifact again, compares it with its digest, and reports what is missing, changed or unreferenced.
 */
import { DomainError } from '../../errors.ts';
import {
  isBadSector,
  verifyArtifact,
  type ArtifactStore,
  type StoredFile,
} from '../../platform/artifact-store/index.ts';
import type { Database } from '../../platform/db.ts';
import { markDamaged, markWhole } from './artifacts.store.ts';
import { artifactsAfter, referencesTo, recordedAmong, sumOfArtifacts, sumOfUnreferenced } from './references.store.ts';

export interface DamagedArtifact {
  readonly sha256: string;
  /**
   * CORRUPT ones are in quarantine now; UNREADABLE ones lie on a bad sector of the disk, where they stay. Requests for
   * a damaged artifact fail with an error that says so.
   */
  readonly damage: 'MISSING' | 'CORRUPT' | 'UNREADABLE';
  readonly byteSize: number;
  /** The first few rows that cite it, e.g. `Checkpoint 0198...`. Empty for a file without a row. */
  readonly referencedBy: readonly string[];
}

export interface Sum {
  readonly count: number;
  readonly byteSize: number;
}

export interface FsckReport {
  /** Number of artifacts that were read again, intact or not. */
  readonly checked: Sum;
  readonly damaged: readonly DamagedArtifact[];
  /** Artifacts that an earlier check marked as damaged and that are intact now. */
  readonly repaired: readonly string[];
  /** Files that have no row; garbage collection deletes them when they are old enough. */
  readonly filesWithoutRow: Sum;
  /** Rows that nothing references; garbage collection deletes them when they are old enough. */
  readonly unreferencedRows: Sum;
  /** Files in the store that are not artifacts, the first few. */
  readonly unexpectedFiles: readonly string[];
  /** All files in quarantine, from this check and earlier ones. */
  readonly quarantined: Sum;
}

export interface FsckProgress {
  readonly bytesDone: number;
  readonly bytesTotal: number;
}

export interface FsckOptions {
  readonly db: Database;
  readonly store: ArtifactStore;
  readonly onProgress?: (progress: FsckProgress) => void;
}

const PAGE_SIZE = 500;
const UNEXPECTED_FILES_SHOWN = 20;

/**
 * Checks every artifact, moves files that do not match to quarantine and marks their rows. Safe while others read and
 * write: bytes are stored before their row is, so a row without its bytes is always damage.
 */
export async function checkArtifacts({ db, store, onProgress }: FsckOptions): Promise<FsckReport> {
  const total = await sumOfArtifacts(db);
  const damaged: DamagedArtifact[] = [];
  const repaired: string[] = [];
  let checkedCount = 0;
  let bytesDone = 0;
  for (let last = ''; ;) {
    const page = await artifactsAfter(db, last, PAGE_SIZE);
    for (const { sha256, byteSize, damagedAt } of page) {
      const damage = await damageOf(store, sha256);
      if (damage !== undefined && (await recordedAmong(db, [sha256])).size > 0) {
        await markDamaged(db, sha256);
        damaged.push({ sha256, damage, byteSize, referencedBy: await referencesTo(db, sha256) });
      } else if (damage === undefined && damagedAt !== null) {
        await markWhole(db, sha256);
        repaired.push(sha256);
      }
      checkedCount += 1;
      bytesDone += byteSize;
      onProgress?.({ bytesDone, bytesTotal: Math.max(total.byteSize, bytesDone) });
    }
    const end = page.at(-1);
    if (end === undefined) break;
    last = end.sha256;
  }
  const files = await checkFiles(db, store);
  const { fileCount, byteSize } = await store.upkeep.quarantined();
  return {
    checked: { count: checkedCount, byteSize: bytesDone },
    damaged: [...damaged, ...files.damaged],
    repaired,
    filesWithoutRow: files.withoutRow,
    unreferencedRows: await sumOfUnreferenced(db),
    unexpectedFiles: files.unexpected.slice(0, UNEXPECTED_FILES_SHOWN),
    quarantined: { count: fileCount, byteSize },
  };
}

async function damageOf(store: ArtifactStore, sha256: string): Promise<DamagedArtifact['damage'] | undefined> {
  try {
    await verifyArtifact(store, sha256);
    return undefined;
  } catch (error) {
    if (isBadSector(error)) return 'UNREADABLE';
    if (!(error instanceof DomainError)) throw error;
    if (error.code !== 'ARTIFACT_CORRUPT') return 'MISSING';
    await store.upkeep.quarantine(sha256);
    return 'CORRUPT';
  }
}

/** Files without a row: unreferenced, or not recorded yet. */
async function checkFiles(
  db: Database,
  store: ArtifactStore,
): Promise<{ damaged: DamagedArtifact[]; withoutRow: Sum; unexpected: string[] }> {
  const damaged: DamagedArtifact[] = [];
  const unexpected: string[] = [];
  let withoutRow: Sum = { count: 0, byteSize: 0 };
  for await (const { named, unknownFiles } of pagesOf(store.list())) {
    unexpected.push(...unknownFiles.map((file) => file.path));
    const recorded = await recordedAmong(db, [...named.keys()]);
    for (const [sha256, { byteSize }] of named) {
      if (recorded.has(sha256)) continue;
      const damage = await damageOf(store, sha256);
      if (damage === 'CORRUPT' || damage === 'UNREADABLE') damaged.push({ sha256, damage, byteSize, referencedBy: [] });
      else withoutRow = { count: withoutRow.count + 1, byteSize: withoutRow.byteSize + byteSize };
    }
  }
  return { damaged, withoutRow, unexpected };
}

interface FilePage {
  readonly named: ReadonlyMap<string, StoredFile>;
  readonly unknownFiles: readonly StoredFile[];
}

/** Files per batch; each batch needs one database query. */
export async function* pagesOf(files: AsyncIterable<StoredFile>): AsyncGenerator<FilePage> {
  let named = new Map<string, StoredFile>();
  let unknownFiles: StoredFile[] = [];
  for await (const file of files) {
    if (file.sha256 === undefined) unknownFiles.push(file);
    else named.set(file.sha256, file);
    if (named.size + unknownFiles.length < PAGE_SIZE) continue;
    yield { named, unknownFiles };
    named = new Map();
    unknownFiles = [];
  }
  yield { named, unknownFiles };
}
