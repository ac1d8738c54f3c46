/**
 * `npm run images`: builds the three images, starts server and worker from them, and carries a pretraining over HTTP.
 *
 *   npm run images                               with Docker, podman or buildah, whichever works here
 *   npm run images -- --base debian --only server,worker
 */
import { mkdtemp } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { formatByteSize } from '../src/cli/terminal.ts';
import { buildDebianBase } from './debian-base.ts';
import { ENGINE_NAMES, openEngine, type ContainerEngine, type EngineName } from './engines.ts';
import { brokenPromises, runTrial, type TrialReport } from './trial.ts';

const ROOT = path.resolve(import.meta.dirname, '..');
const IMAGES = ['server', 'worker', 'worker-gpu'] as const;
type ImageName = (typeof IMAGES)[number];
/** As in the Dockerfiles. */
const DEFAULT_BASE = 'node:24-bookworm-slim';
const DEBIAN_MIRROR = 'http://deb.debian.org/debian';

const HELP = `usage: npm run images [-- --engine buildah] [-- --base debian] [-- --only server,worker] [-- --json]

Builds docker/server.Dockerfile, docker/worker.Dockerfile and docker/worker-gpu.Dockerfile. Then it starts the server and
the worker from their images, each as the image's user and with one writable volume, lets the server import images, and
lets the worker carry a pretraining over HTTP. Prints the sizes, and which program runs as whom. Exits with 1 if a process
runs as another user, or writes outside its volume. worker-gpu is built and not started: that needs a GPU.

  --engine <name>  ${ENGINE_NAMES.join(', ')} (default: the first that works here)
  --base <image>   base image (default: node:24-bookworm-slim). "debian" makes one from Debian's mirror with debootstrap,
                   for machines that reach no registry of images; it needs root
  --mirror <url>   Debian's mirror for that (default: ${DEBIAN_MIRROR})
  --only <names>   ${IMAGES.join(', ')}, joined by commas (default: all). worker-gpu takes about 10 GB
  --no-build       use the images that the last call left
  --json           one JSON document on standard output; progress is on standard error

examples:
  npm run images
  npm run images -- --engine buildah --base debian --only server,worker

exit code: 0 all is as promised; 1 it is not, and why is printed; 2 invalid arguments, or something is missing; 130 Ctrl-C.
`;

const { values } = parseArgs({
  options: {
    engine: { type: 'string' },
    base: { type: 'string' },
    mirror: { type: 'string', default: DEBIAN_MIRROR },
    only: { type: 'string', default: IMAGES.join(',') },
    'no-build': { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h' },
  },
});
if (values.help === true) {
  process.stdout.write(HELP);
  process.exit(0);
}
const wanted = values.only.split(',').map((text) => IMAGES.find((name) => name === text.trim()));
const engineNames = values.engine === undefined ? ENGINE_NAMES : ENGINE_NAMES.filter((name) => name === values.engine);
if (wanted.includes(undefined) || engineNames.length === 0) {
  process.stderr.write(HELP);
  process.exit(2);
}
const progress = (text: string): void => void process.stderr.write(`${text}\n`);
const engine = await firstThatWorks(engineNames);
progress(`${engine.version}: ${engine.isolation}`);

const stopped = new AbortController();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stopped.abort());
const tagOf = (name: ImageName): string => `localhost/paraffin-${name}`;

interface Report {
  readonly engine: string;
  readonly isolation: string;
  /** Null for images that an earlier call built. */
  readonly base: string | null;
  readonly images: readonly {
    readonly name: string;
    readonly byteSize: number;
    readonly buildSeconds: number | null;
  }[];
  /** Null if server or worker are not among the images. */
  readonly trial: TrialReport | null;
  readonly broken: readonly string[];
}

try {
  const names = wanted.filter((name) => name !== undefined);
  const base = values.base === 'debian' && !values['no-build'] ? await makeBase() : values.base;
  const logs = await mkdtemp(path.join(os.tmpdir(), 'paraffin-images-log-'));
  const images: Report['images'][number][] = [];
  for (const name of names) {
    const buildSeconds = values['no-build'] ? null : await build(name, base, path.join(logs, `${name}.log`));
    const byteSize = await engine.byteSizeOf(tagOf(name));
    progress(`${name}: ${formatByteSize(byteSize)}`);
    images.push({ name, byteSize, buildSeconds });
  }
  const isTried = names.includes('server') && names.includes('worker');
  const trial = isTried
    ? await runTrial({
        engine,
        server: tagOf('server'),
        worker: tagOf('worker'),
        signal: stopped.signal,
        onProgress: progress,
      })
    : null;
  const report: Report = {
    engine: engine.version,
    isolation: engine.isolation,
    base: values['no-build'] ? null : (base ?? DEFAULT_BASE),
    images,
    trial,
    broken: trial === null ? [] : brokenPromises(trial),
  };
  process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : asText(report));
  process.exitCode = report.broken.length === 0 ? 0 : 1;
} catch (error) {
  if (!stopped.signal.aborted) throw error;
  process.exitCode = 130;
}

async function firstThatWorks(names: readonly EngineName[]): Promise<ContainerEngine> {
  const obstacles: string[] = [];
  for (const name of names) {
    const opened = await openEngine(name);
    if (typeof opened !== 'string') return opened;
    obstacles.push(opened);
  }
  process.stderr.write(
    `No engine builds images here:\n${obstacles.map((obstacle) => `  ${obstacle}\n`).join('')}Debian: apt-get install buildah\n`,
  );
  process.exit(2);
}

async function makeBase(): Promise<string> {
  progress('making a base image from Debian (about two minutes) …');
  return buildDebianBase(engine, values.mirror);
}

async function build(name: ImageName, base: string | undefined, logFile: string): Promise<number> {
  progress(`building ${name}; its output is in ${logFile} …`);
  const startedMs = performance.now();
  await engine.build({
    dockerfile: path.join(ROOT, 'docker', `${name}.Dockerfile`),
    context: ROOT,
    tag: tagOf(name),
    base,
    logFile,
  });
  return (performance.now() - startedMs) / 1000;
}

function asText({ engine: version, isolation, base, images, trial, broken }: Report): string {
  const lines = [
    base === null
      ? `Started by ${version} with ${isolation}.`
      : `Built by ${version} on ${base}, started with ${isolation}.`,
    ...images.map(
      ({ name, byteSize, buildSeconds }) =>
        `  ${name.padEnd(10)} ${formatByteSize(byteSize).padStart(8)}${buildSeconds === null ? '' : `   built in ${Math.round(buildSeconds)} s`}`,
    ),
  ];
  if (trial !== null) {
    const { pretraining, containers } = trial;
    lines.push(
      `A pretraining of ${pretraining.steps} steps over HTTP: ${pretraining.status} after ${Math.round(pretraining.durationSeconds)} s.`,
    );
    for (const [name, { processes, strayFiles }] of Object.entries(containers)) {
      lines.push(`${name}: ${processes.length} processes, ${strayFiles.length} files written outside /data`);
      for (const { userId, capabilities, command } of processes)
        lines.push(
          `  user ${userId}${capabilities === undefined ? '' : `, capabilities ${capabilities}`}: ${command.slice(0, 90)}`,
        );
    }
  }
  return [...lines, ...broken.map((sentence) => `BROKEN  ${sentence}`), ''].join('\n');
}
