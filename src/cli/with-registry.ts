/** Shared by the commands on stored bytes (backup, fsck, gc): they open the registry of the environment directly. */
import { readEnvironment, type Environment } from '../env.ts';
import { openArtifactStore, type ArtifactStore } from '../platform/artifact-store/index.ts';
import { openDatabase, transactionsOf, type Database, type Transact } from '../platform/db.ts';
import { MIGRATIONS_DIR, readMigrations, requireMigrated } from '../platform/migrate.ts';
import { reachRegistryDatabase } from '../platform/registry-database.ts';

export interface ReachedRegistry {
  readonly env: Environment;
  readonly databaseUrl: string;
  readonly db: Database;
  readonly transact: Transact;
  readonly store: ArtifactStore;
}

/** Opens the registry, calls `work`, and closes what it opened. */
export async function withRegistry<Result>(work: (registry: ReachedRegistry) => Promise<Result>): Promise<Result> {
  const env = readEnvironment();
  const database = await reachRegistryDatabase(env);
  try {
    await requireMigrated(database.url, await readMigrations(MIGRATIONS_DIR));
    const db = openDatabase(database.url, { maxConnections: 3 });
    try {
      return await work({
        env,
        databaseUrl: database.url,
        db,
        transact: transactionsOf(db),
        store: openArtifactStore(env.artifacts),
      });
    } finally {
      await db.$disconnect();
    }
  } finally {
    await database.release();
  }
}
