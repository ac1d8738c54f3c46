/** The one reader of process.env. Every fault is listed at once, with the variable's name. */
import { homedir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';

const portSchema = z.string().regex(/^\d{1,5}$/, 'must be a number from 0 to 65535').transform(Number).pipe(z.number().max(65_535, 'must be a number from 0 to 65535'));
const flagSchema = z.enum(['true', 'false', '1', '0']).transform((text) => text === 'true' || text === '1');

const environmentSchema = z.object({
  PARAFFIN_DATA_DIR: z.string().min(1).default('./.paraffin'),
  PARAFFIN_HOST: z.string().min(1).default('127.0.0.1'),
  PARAFFIN_PORT: portSchema.default(4000),
  PARAFFIN_DATABASE_URL: z.string().regex(/^postgres(ql)?:\/\//, 'must begin with postgresql://').optional(),
  PARAFFIN_IMPORT_ROOTS: z.string().optional(),
  PARAFFIN_ALLOW_PRIVATE_URLS: flagSchema.default(false),
  PARAFFIN_ENGINE_CACHE_DIR: z.string().min(1).optional(),
  PARAFFIN_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
  PARAFFIN_REQUIRE_AUTH: flagSchema.default(false),
  PARAFFIN_WORKER: flagSchema.default(true),
  PARAFFIN_WORKER_NAME: z.string().min(1).optional(),
  PARAFFIN_CODE_REVISION: z.string().min(1).optional(),
  XDG_CACHE_HOME: z.string().optional(),
});

export interface Environment {
  /** Absolute. Database, artifacts, keys and logs live below it. */
  readonly dataDir: string;
  readonly host: string;
  readonly port: number;
  /** An external PostgreSQL; undefined means the embedded one under the data directory. */
  readonly databaseUrl: string | undefined;
  /** Absolute folders from which images and checkpoints may be imported. */
  readonly importRoots: readonly string[];
  /** True: checkpoints may be fetched from loopback and private addresses, too. */
  readonly allowPrivateUrls: boolean;
  /** Where the TensorFlow library is kept, outside node_modules, shared by every clone. */
  readonly engineCacheDir: string;
  readonly logLevel: string;
  /** True: reads need a key too. */
  readonly requireAuth: boolean;
  /** False: the server runs no worker of its own. */
  readonly withWorker: boolean;
  readonly workerName: string | undefined;
  /** Of the running code, where a deployment knows it. */
  readonly codeRevision: string | undefined;
}

/** Faults of the environment, all of them. */
export class EnvironmentError extends Error {
  constructor(faults: readonly string[]) {
    super(`The environment has ${faults.length === 1 ? 'a fault' : 'faults'}:\n${faults.map((fault) => `  - ${fault}`).join('\n')}`);
    this.name = 'EnvironmentError';
  }
}

/**
 * Reads and checks the configuration.
 * @throws EnvironmentError naming every variable at fault.
 */
export function readEnvironment(source: Readonly<Record<string, string | undefined>> = process.env): Environment {
  // An empty variable means "not set", as people write `PARAFFIN_PORT= npm start`.
  const present = Object.fromEntries(Object.entries(source).filter(([, value]) => value !== undefined && value !== ''));
  const parsed = environmentSchema.safeParse(present);
  if (!parsed.success) throw new EnvironmentError(parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`));
  const values = parsed.data;
  const dataDir = path.resolve(values.PARAFFIN_DATA_DIR);
  const cacheHome = values.XDG_CACHE_HOME ?? path.join(homedir(), '.cache');
  const roots = values.PARAFFIN_IMPORT_ROOTS?.split(path.delimiter).filter((root) => root !== '') ?? [];
  return {
    dataDir,
    host: values.PARAFFIN_HOST,
    port: values.PARAFFIN_PORT,
    databaseUrl: values.PARAFFIN_DATABASE_URL,
    importRoots: [path.join(dataDir, 'imports'), ...roots.map((root) => path.resolve(root))],
    allowPrivateUrls: values.PARAFFIN_ALLOW_PRIVATE_URLS,
    engineCacheDir: path.resolve(values.PARAFFIN_ENGINE_CACHE_DIR ?? path.join(cacheHome, 'paraffin', 'engine')),
    logLevel: values.PARAFFIN_LOG_LEVEL,
    requireAuth: values.PARAFFIN_REQUIRE_AUTH,
    withWorker: values.PARAFFIN_WORKER,
    workerName: values.PARAFFIN_WORKER_NAME,
    codeRevision: values.PARAFFIN_CODE_REVISION,
  };
}

/** What a program of ours hands to the process that it starts. */
export function childEnvironment(overrides: Readonly<Record<string, string>>): Record<string, string> {
  const inherited = Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const]));
  return { ...Object.fromEntries(inherited), ...overrides };
}
