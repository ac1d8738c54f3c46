/** The only module that reads process.env. One error lists every invalid variable. */
import { isIP } from 'node:net';
import { readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { parseEnv } from 'node:util';
import { z } from 'zod';
import { workerLabelsSchema } from './protocol/requirements.ts';
import { RUN_KINDS, type RunKind } from './protocol/runs.ts';
import { isBucketUrl, parseArtifactPlace, type ArtifactPlace, type S3Access } from './platform/artifact-store/place.ts';

const PROJECT_ROOT = path.resolve(import.meta.dirname, '..');

const portSchema = z
  .string()
  .regex(/^\d{1,5}$/, 'must be a number from 0 to 65535')
  .transform(Number)
  .pipe(z.number().max(65_535, 'must be a number from 0 to 65535'));
const countSchema = z
  .string()
  .regex(/^[1-9]\d{0,8}$/, 'must be a whole number above 0')
  .transform(Number);
const kindsSchema = z
  .string()
  .transform((text) => text.split(',').map((kind) => kind.trim().toUpperCase()))
  .pipe(
    z.array(z.enum(RUN_KINDS, 'must be among import, pretraining, evaluation, embedding and export, joined by commas')),
  );
const labelsSchema = z
  .string()
  .transform((text) => text.split(',').map((label) => label.trim()))
  .pipe(workerLabelsSchema);
const flagSchema = z.enum(['true', 'false', '1', '0']).transform((text) => text === 'true' || text === '1');

/** One year; browsers keep a cookie for at most 400 days. */
const SESSION_HOURS_MAX = 8_760;

const environmentSchema = z.object({
  PARAFFIN_DATA_DIR: z
    .string()
    .min(1)
    // The sandbox hides the data directory, and with it a program inside.
    .refine(
      (folder) => !`${PROJECT_ROOT}${path.sep}`.startsWith(path.join(path.resolve(folder), path.sep)),
      'must be a folder that does not contain the program itself',
    )
    .default('./.paraffin'),
  PARAFFIN_ARTIFACTS_URL: z.string().refine(isBucketUrl, 'must be s3://bucket or s3://bucket/prefix').optional(),
  PARAFFIN_ARTIFACTS_REDIRECT: flagSchema.default(false),
  PARAFFIN_S3_ENDPOINT: z
    .string()
    .regex(/^https?:\/\/[^/\s]+\/?$/, 'must be http://host:port or https://host')
    .transform((text) => text.replace(/\/$/, ''))
    .optional(),
  PARAFFIN_S3_REGION: z.string().min(1).optional(),
  PARAFFIN_S3_PATH_STYLE: flagSchema.optional(),
  PARAFFIN_CACHE_DIR: z.string().min(1).optional(),
  PARAFFIN_CACHE_BYTES: z
    .string()
    .regex(/^[1-9]\d{0,14}$/, 'must be a number of bytes')
    .transform(Number)
    .default(100 * 1024 ** 3),
  PARAFFIN_HOST: z.string().min(1).default('127.0.0.1'),
  PARAFFIN_PORT: portSchema.default(4000),
  PARAFFIN_DATABASE_URL: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'must begin with postgresql://')
    .optional(),
  PARAFFIN_IMPORT_ROOTS: z.string().optional(),
  PARAFFIN_ALLOW_PRIVATE_URLS: flagSchema.default(false),
  PARAFFIN_MAX_UPLOAD_BYTES: z
    .string()
    .regex(/^[1-9]\d{0,14}$/, 'must be a number of bytes')
    .transform(Number)
    .default(64 * 1024 ** 3),
  PARAFFIN_ENGINE_CACHE_DIR: z.string().min(1).optional(),
  PARAFFIN_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
  PARAFFIN_REQUIRE_AUTH: flagSchema.default(false),
  PARAFFIN_PUBLIC_URL: z
    .string()
    .regex(/^https?:\/\/[^/\s]+(\/\S*)?$/, 'must begin with http:// or https://')
    .transform((text) => text.replace(/\/+$/, ''))
    .optional(),
  PARAFFIN_TRUST_PROXY: z
    .string()
    .transform((text) =>
      text
        .split(',')
        .map((each) => each.trim())
        .filter((each) => each !== ''),
    )
    .pipe(
      z.array(
        z
          .string()
          .refine(isAddressOrSubnet, 'must be addresses or subnets such as 127.0.0.1 or 10.0.0.0/8, joined by commas'),
      ),
    )
    .default([]),
  PARAFFIN_RATE_LIMIT_PER_MINUTE: countSchema.default(6_000),
  PARAFFIN_REQUEST_TIMEOUT_MS: countSchema.default(30_000),
  PARAFFIN_SESSION_HOURS: z
    .string()
    .regex(/^[1-9]\d{0,3}$/, `must be a number of hours from 1 to ${SESSION_HOURS_MAX}`)
    .transform(Number)
    .pipe(z.number().max(SESSION_HOURS_MAX, `must be a number of hours from 1 to ${SESSION_HOURS_MAX}`))
    .default(12),
  PARAFFIN_INTROSPECTION: flagSchema.default(true),
  PARAFFIN_LANDING_PAGE: flagSchema.default(true),
  PARAFFIN_WORKER: flagSchema.default(true),
  PARAFFIN_WORKER_NAME: z.string().min(1).optional(),
  PARAFFIN_WORKER_KINDS: kindsSchema.optional(),
  PARAFFIN_WORKER_LABELS: labelsSchema.optional(),
  PARAFFIN_WORKER_LONGEST_MINUTES: countSchema.optional(),
  PARAFFIN_CODE_REVISION: z.string().min(1).optional(),
  PARAFFIN_CPU_SLOTS: countSchema.default(1),
  PARAFFIN_STUCK_AFTER_SECONDS: countSchema.default(900),
  PARAFFIN_URL: z
    .string()
    .regex(/^https?:\/\//, 'must begin with http:// or https://')
    .optional(),
  PARAFFIN_API_KEY: z.string().min(1).optional(),
  CUDA_VISIBLE_DEVICES: z.string().optional(),
  XDG_CACHE_HOME: z.string().optional(),
});

function isAddressOrSubnet(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/');
  const family = isIP(address);
  return (
    family !== 0 &&
    rest.length === 0 &&
    (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128)))
  );
}

/** The description of a variable for users; docs/configuration.md is generated from this table. */
export interface VariableGuide {
  /** A description of the default. */
  readonly fallback: string;
  readonly meaning: string;
}

/** One line for each variable; the compiler requires it for every variable of the schema above. */
export const VARIABLE_GUIDES: Readonly<Record<keyof z.input<typeof environmentSchema>, VariableGuide>> = {
  PARAFFIN_DATA_DIR: { fallback: '`./.paraffin`', meaning: 'Folder of the database, artifacts, keys and imports.' },
  PARAFFIN_ARTIFACTS_URL: {
    fallback: '`<data>/artifacts`',
    meaning:
      '`s3://bucket/prefix` of the stored bytes; credentials come from the standard chain of AWS (`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, `AWS_PROFILE`, the role of the machine). See [artifact stores](artifact-stores.md).',
  },
  PARAFFIN_ARTIFACTS_REDIRECT: {
    fallback: '`false`',
    meaning:
      '`true`: downloads from a bucket are answered with 302 and a presigned address, and workers send large artifacts to presigned addresses, so that the bytes do not pass through the server. Workers that cannot reach the bucket go through the server.',
  },
  PARAFFIN_S3_ENDPOINT: { fallback: 'Amazon S3', meaning: 'Address of an S3-compatible store.' },
  PARAFFIN_S3_REGION: {
    fallback: '`AWS_REGION`, or `us-east-1` with `PARAFFIN_S3_ENDPOINT`',
    meaning: 'Region of the bucket.',
  },
  PARAFFIN_S3_PATH_STYLE: {
    fallback: '`true` with `PARAFFIN_S3_ENDPOINT`',
    meaning: '`true`: `endpoint/bucket/key`; `false`: `bucket.endpoint/key`.',
  },
  PARAFFIN_CACHE_DIR: {
    fallback: '`<data>/cache`',
    meaning:
      'Folder in which a worker keeps copies of the artifacts of a bucket, and remembers which files it has verified. Workers of one machine may share it.',
  },
  PARAFFIN_CACHE_BYTES: {
    fallback: '107374182400',
    meaning: 'Limit of these copies; the least recently used ones are removed, and those that a run reads stay.',
  },
  PARAFFIN_HOST: {
    fallback: '`127.0.0.1`',
    meaning:
      'Address to listen on. On loopback, programs of the same user on this machine read without a key; on anything else every read needs a key or a session.',
  },
  PARAFFIN_PORT: { fallback: '`4000`', meaning: 'Port to listen on; 0 selects a free one.' },
  PARAFFIN_DATABASE_URL: { fallback: 'embedded PostgreSQL', meaning: '`postgresql://…` of an external database.' },
  PARAFFIN_IMPORT_ROOTS: {
    fallback: 'none',
    meaning: 'Folders, joined by `:`, from which images and checkpoints may be imported, besides `<data>/imports`.',
  },
  PARAFFIN_ALLOW_PRIVATE_URLS: {
    fallback: '`false`',
    meaning: '`true`: `importCheckpoint` may also fetch from loopback and private addresses.',
  },
  PARAFFIN_MAX_UPLOAD_BYTES: {
    fallback: '68719476736',
    meaning: 'Largest file that may be uploaded, if the disk has room for it.',
  },
  PARAFFIN_ENGINE_CACHE_DIR: {
    fallback: '`~/.cache/paraffin/engine`',
    meaning: 'Folder of TensorFlow, shared by all clones of the project.',
  },
  PARAFFIN_LOG_LEVEL: {
    fallback: '`info`',
    meaning: '`trace` … `fatal`, `silent`; logs are JSON lines on standard error.',
  },
  PARAFFIN_REQUIRE_AUTH: {
    fallback: '`false`',
    meaning: '`true`: reads by the same user on this machine need a key too.',
  },
  PARAFFIN_PUBLIC_URL: {
    fallback: '`http://<host>:<port>`',
    meaning:
      'Public URL of this server, e.g. `https://paraffin.example`, for the links in dataset cards and model cards. Never taken from a request.',
  },
  PARAFFIN_TRUST_PROXY: {
    fallback: 'none',
    meaning:
      'Addresses or subnets, joined by commas, of the proxies whose `X-Forwarded-For`, `X-Forwarded-Host` and `X-Forwarded-Proto` are trusted. Requests through them never count as local; with `https`, session cookies are Secure.',
  },
  PARAFFIN_RATE_LIMIT_PER_MINUTE: {
    fallback: '`6000`',
    meaning: 'Requests per minute of one key, or of one address without a key.',
  },
  PARAFFIN_REQUEST_TIMEOUT_MS: {
    fallback: '`30000`',
    meaning:
      'Time limit of one GraphQL operation and of each of its database statements; `importCheckpoint` may take an hour.',
  },
  PARAFFIN_SESSION_HOURS: {
    fallback: '`12`',
    meaning: 'Lifetime of a browser session; shorter if the key expires earlier.',
  },
  PARAFFIN_INTROSPECTION: { fallback: '`true`', meaning: '`false`: introspection is refused.' },
  PARAFFIN_LANDING_PAGE: { fallback: '`true`', meaning: '`false`: no pages at `/`.' },
  PARAFFIN_WORKER: { fallback: '`true`', meaning: '`false`: the server starts no worker.' },
  PARAFFIN_WORKER_NAME: { fallback: 'host and process id', meaning: 'Name of the worker in run events.' },
  PARAFFIN_WORKER_KINDS: {
    fallback: 'all',
    meaning:
      'The kinds of runs that the worker takes, joined by commas, such as `import,export` where a [cluster](clusters.md) carries the others.',
  },
  PARAFFIN_WORKER_LABELS: {
    fallback: 'none',
    meaning:
      'Labels of the worker, joined by commas, such as `a100,basel`: it takes runs that [require](clusters.md) them.',
  },
  PARAFFIN_WORKER_LONGEST_MINUTES: {
    fallback: 'no limit',
    meaning: 'The worker takes only runs whose longest running time is at most this.',
  },
  PARAFFIN_CODE_REVISION: { fallback: 'none', meaning: 'Recorded in the environment of each run.' },
  PARAFFIN_CPU_SLOTS: {
    fallback: '`1`',
    meaning:
      'Number of trainings and evaluations that a worker without a GPU runs at the same time, sharing its cores; at most one per core.',
  },
  PARAFFIN_STUCK_AFTER_SECONDS: {
    fallback: '`900`',
    meaning: 'A run whose process makes no progress for this time is stopped and retried.',
  },
  PARAFFIN_URL: {
    fallback: 'the server of this machine',
    meaning: 'The server that the command line uses, e.g. `https://registry.example`; `--url` overrides it.',
  },
  PARAFFIN_API_KEY: {
    fallback: '`<data>/admin-key`, for a server on loopback that runs as the owner of that file',
    meaning: 'The key that the command line sends.',
  },
  CUDA_VISIBLE_DEVICES: {
    fallback: 'all',
    meaning: 'The GPUs that a worker may use, by index or UUID, joined by commas; schedulers such as Slurm set it.',
  },
  XDG_CACHE_HOME: {
    fallback: '`~/.cache`',
    meaning:
      'Folder of caches: TensorFlow if `PARAFFIN_ENGINE_CACHE_DIR` is not set, and the unfinished uploads of the command line.',
  },
};

export interface Environment {
  /** Absolute. Database, artifacts, keys and logs live below it. */
  readonly dataDir: string;
  /** Where the stored bytes are: an absolute folder, or a bucket. */
  readonly artifacts: ArtifactPlace;
  /** How buckets are reached. */
  readonly s3: S3Access;
  /** True: downloads from a bucket are redirected to it, and workers send large artifacts to it. */
  readonly redirectDownloads: boolean;
  /** Absolute folder for copies of remote artifacts. */
  readonly cacheDir: string;
  readonly cacheBytes: number;
  readonly host: string;
  readonly port: number;
  /** An external PostgreSQL; undefined means the embedded one under the data directory. */
  readonly databaseUrl: string | undefined;
  /** Absolute folders from which images and checkpoints may be imported. */
  readonly importRoots: readonly string[];
  /** True: checkpoints may also be fetched from loopback and private addresses. */
  readonly allowPrivateUrls: boolean;
  /** Limit of one uploaded file; the reader of checkpoints accepts no more than the default. */
  readonly maxUploadBytes: number;
  /** Where the TensorFlow library is kept, outside node_modules, shared by every clone. */
  readonly engineCacheDir: string;
  /** Folder in which the command line records its unfinished uploads. */
  readonly uploadCacheDir: string;
  readonly logLevel: string;
  /** If true, reads need a key too. */
  readonly requireAuth: boolean;
  /** The public base URL of this server, without a trailing slash; undefined means the address that it listens on. */
  readonly publicUrl: string | undefined;
  /** Addresses and subnets of the proxies in front. */
  readonly trustedProxies: readonly string[];
  readonly rateLimitPerMinute: number;
  /** Time limit of one operation, and of each database statement of the server. */
  readonly requestTimeoutMs: number;
  readonly sessionLifetimeMs: number;
  readonly introspection: boolean;
  readonly landingPage: boolean;
  /** If false, the server starts no worker. */
  readonly withWorker: boolean;
  readonly workerName: string | undefined;
  /** The kinds of runs that the worker takes; undefined: all. */
  readonly workerKinds: readonly RunKind[] | undefined;
  readonly workerLabels: readonly string[];
  /** The worker takes only runs whose longest running time is at most this; undefined: any. */
  readonly workerLongestSeconds: number | undefined;
  /** Revision of the running code, if the deployment provides it. */
  readonly codeRevision: string | undefined;
  /** Number of concurrent trainings and evaluations on a machine without a GPU. */
  readonly cpuSlots: number;
  /** Indices or UUIDs of the GPUs that a worker may use; undefined: all. */
  readonly visibleGpus: readonly string[] | undefined;
  /** Time without progress after which the process of a run is killed. */
  readonly stuckAfterSeconds: number;
  /** The server that the command line uses, if it is not this machine's. */
  readonly url: string | undefined;
  readonly apiKey: string | undefined;
}

/** Lists every invalid environment variable. */
export class EnvironmentError extends Error {
  constructor(faults: readonly string[]) {
    super(
      `Invalid environment ${faults.length === 1 ? 'variable' : 'variables'}:\n${faults.map((fault) => `  - ${fault}`).join('\n')}`,
    );
    this.name = 'EnvironmentError';
  }
}

/**
 * Reads and checks the configuration.
 * @throws EnvironmentError that names every invalid variable.
 */
export function readEnvironment(source: Readonly<Record<string, string | undefined>> = process.env): Environment {
  // An empty variable means "not set", as people write `PARAFFIN_PORT= npm start`.
  const present = Object.fromEntries(Object.entries(source).filter(([, value]) => value !== undefined && value !== ''));
  const parsed = environmentSchema.safeParse(present);
  if (!parsed.success)
    throw new EnvironmentError(parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`));
  const values = parsed.data;
  const dataDir = path.resolve(values.PARAFFIN_DATA_DIR);
  const localArtifacts = path.join(dataDir, 'artifacts');
  const s3: S3Access = {
    endpoint: values.PARAFFIN_S3_ENDPOINT,
    region: values.PARAFFIN_S3_REGION,
    pathStyle: values.PARAFFIN_S3_PATH_STYLE ?? values.PARAFFIN_S3_ENDPOINT !== undefined,
  };
  const cacheHome = values.XDG_CACHE_HOME ?? path.join(homedir(), '.cache');
  const roots = values.PARAFFIN_IMPORT_ROOTS?.split(path.delimiter).filter((root) => root !== '') ?? [];
  return {
    dataDir,
    artifacts: parseArtifactPlace(values.PARAFFIN_ARTIFACTS_URL ?? localArtifacts, s3) ?? localArtifacts,
    s3,
    redirectDownloads: values.PARAFFIN_ARTIFACTS_REDIRECT,
    cacheDir: path.resolve(values.PARAFFIN_CACHE_DIR ?? path.join(dataDir, 'cache')),
    cacheBytes: values.PARAFFIN_CACHE_BYTES,
    host: values.PARAFFIN_HOST,
    port: values.PARAFFIN_PORT,
    databaseUrl: values.PARAFFIN_DATABASE_URL,
    importRoots: [path.join(dataDir, 'imports'), ...roots.map((root) => path.resolve(root))],
    allowPrivateUrls: values.PARAFFIN_ALLOW_PRIVATE_URLS,
    maxUploadBytes: values.PARAFFIN_MAX_UPLOAD_BYTES,
    engineCacheDir: path.resolve(values.PARAFFIN_ENGINE_CACHE_DIR ?? path.join(cacheHome, 'paraffin', 'engine')),
    uploadCacheDir: path.resolve(cacheHome, 'paraffin', 'uploads'),
    logLevel: values.PARAFFIN_LOG_LEVEL,
    requireAuth: values.PARAFFIN_REQUIRE_AUTH,
    publicUrl: values.PARAFFIN_PUBLIC_URL,
    trustedProxies: values.PARAFFIN_TRUST_PROXY,
    rateLimitPerMinute: values.PARAFFIN_RATE_LIMIT_PER_MINUTE,
    requestTimeoutMs: values.PARAFFIN_REQUEST_TIMEOUT_MS,
    sessionLifetimeMs: values.PARAFFIN_SESSION_HOURS * 3_600_000,
    introspection: values.PARAFFIN_INTROSPECTION,
    landingPage: values.PARAFFIN_LANDING_PAGE,
    withWorker: values.PARAFFIN_WORKER,
    workerName: values.PARAFFIN_WORKER_NAME,
    workerKinds: values.PARAFFIN_WORKER_KINDS,
    workerLabels: values.PARAFFIN_WORKER_LABELS ?? [],
    workerLongestSeconds:
      values.PARAFFIN_WORKER_LONGEST_MINUTES === undefined ? undefined : values.PARAFFIN_WORKER_LONGEST_MINUTES * 60,
    codeRevision: values.PARAFFIN_CODE_REVISION,
    cpuSlots: values.PARAFFIN_CPU_SLOTS,
    visibleGpus: values.CUDA_VISIBLE_DEVICES?.split(',').map((name) => name.trim()),
    stuckAfterSeconds: values.PARAFFIN_STUCK_AFTER_SECONDS,
    url: values.PARAFFIN_URL,
    apiKey: values.PARAFFIN_API_KEY,
  };
}

/**
 * As `readEnvironment`, with the variables of a settings file before those of the process: a secret in a file that only
 * its owner can read is not passed on to other programs, as the environment would be.
 * @param file lines such as `NAME=value`; undefined: the environment alone.
 * @throws EnvironmentError for a file that cannot be read or that others may read, and for wrong values.
 */
export function environmentOf(file: string | undefined): Environment {
  return readEnvironment({ ...process.env, ...(file === undefined ? {} : settingsIn(file)) });
}

function settingsIn(file: string): Record<string, string | undefined> {
  try {
    if (!isPrivateFile(statSync(file), process.geteuid?.()))
      throw new EnvironmentError([`${file}: other users may read it; run "chmod 600 ${file}"`]);
    return parseEnv(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error instanceof EnvironmentError) throw error;
    throw new EnvironmentError([`${file}: cannot be read (${error instanceof Error ? error.message : String(error)})`]);
  }
}

/**
 * Whether a file with secrets is closed to others: to everyone but its owner; a file of root may be readable to a
 * group, because so Kubernetes mounts a Secret for a user who is not root. PostgreSQL has the same rule for its keys.
 * @param user the effective user of this process.
 */
export function isPrivateFile({ mode, uid }: { readonly mode: number; readonly uid: number }, user?: number): boolean {
  return (mode & (uid === 0 && user !== 0 ? 0o037 : 0o077)) === 0;
}

/** What `paraffin worker` needs of the configuration, wherever it is started. */
const WORKER_SETTINGS: readonly (keyof z.input<typeof environmentSchema>)[] = [
  'PARAFFIN_URL',
  'PARAFFIN_API_KEY',
  'PARAFFIN_DATA_DIR',
  'PARAFFIN_CACHE_DIR',
  'PARAFFIN_CACHE_BYTES',
  'PARAFFIN_ENGINE_CACHE_DIR',
  'PARAFFIN_LOG_LEVEL',
  'PARAFFIN_CODE_REVISION',
  'PARAFFIN_STUCK_AFTER_SECONDS',
  'PARAFFIN_WORKER_LABELS',
];

/** The settings that a launcher hands over to the workers that it starts: those of its own that are set. */
export function workerSettings(): Readonly<Record<string, string>> {
  return Object.fromEntries(
    WORKER_SETTINGS.flatMap((name) => {
      const value = process.env[name];
      return value === undefined || value === '' ? [] : [[name, value] as const];
    }),
  );
}

/** What opens a database, a bucket or the registry. */
const SECRETS = /^(PARAFFIN_(API_KEY|DATABASE_URL)$|AWS_|PG)/;

/** As `childEnvironment`, for a process that reads strangers' files: it gets no credentials. */
export function childEnvironmentWithoutSecrets(overrides: Readonly<Record<string, string>>): Record<string, string> {
  const open = Object.entries(childEnvironment({})).filter(([name]) => !SECRETS.test(name));
  return { ...Object.fromEntries(open), ...overrides };
}

/** The environment that one of our programs passes to a child process. */
export function childEnvironment(overrides: Readonly<Record<string, string>>): Record<string, string> {
  const inherited = Object.entries(process.env).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value] as const],
  );
  return { ...Object.fromEntries(inherited), ...overrides };
}
