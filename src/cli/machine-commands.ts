/** Commands that run on this machine: server, worker, demo, engine. Their code is loaded only when they are called. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { Option } from '@commander-js/extra-typings';
import { ENGINE_BUILD_NAMES } from '../platform/engine/builds.ts';
import { childEnvironment, readEnvironment } from '../env.ts';
import type { LauncherOptions } from '../protocol/launcher-options.ts';
import { PLACEMENTS_AT_ONCE_MAX } from '../protocol/placements.ts';
import type { RunKind } from '../protocol/runs.ts';
import { listSlidesCommand } from './client/slides.ts';
import { command, group, listOf, numberFrom, oneOf, wholeNumberFrom } from './command.ts';
import { CommandFailure, EXIT } from './exit-codes.ts';

const PROJECT_ROOT = path.resolve(import.meta.dirname, '../..');
const WORKER_PROGRAM = path.join(PROJECT_ROOT, 'workers', 'main.ts');
const PARAFFIN_PROGRAM = path.join(PROJECT_ROOT, 'bin', 'paraffin.mjs');
const LAUNCHER_PROGRAM = path.join(PROJECT_ROOT, 'workers', 'launchers', 'main.ts');

export const serveCommand = command('serve', {
  summary: 'run the server with one worker, until it is stopped',
  details:
    'Serves until stopped: pages at /, GraphQL over HTTP and WebSocket at /graphql, downloads, /healthz, /readyz, /metrics, and one worker. Everything is kept under PARAFFIN_DATA_DIR (default .paraffin). Ctrl-C stops cleanly: a running training keeps its state and continues at the next start.',
  examples: ['serve', 'serve   # with PARAFFIN_PORT=8080 PARAFFIN_IMPORT_ROOTS=/data/slides in the environment'],
}).action(async () => {
  await (await import('../main.ts')).serve();
});

export const workerCommand = command('worker', {
  summary: 'run another worker for a server',
  details:
    'Executes runs of a registry, until it is stopped. It needs HTTP(S) to the registry and a key that may WORK, and nothing else: stored files arrive over HTTP and are kept in PARAFFIN_CACHE_DIR. Imports read folders of the server and run there, or with --beside-server. Ctrl-C returns the current run to the queue with its state. With --once it takes one run and ends: exit code 0 if the run succeeded, 4 if it failed or was canceled, 5 if it is queued again, 6 if the worker did not take it.',
  examples: [
    'worker --url https://registry.example   # with PARAFFIN_API_KEY=pfn_… in the environment',
    'worker --once --run 0198a7c2-… --settings ~/.config/paraffin/worker.env',
  ],
})
  .option('--once', 'take one run, and end with it; needs --run')
  .option('--run <id>', 'the run that it takes; with --once')
  .option('--url <address>', 'URL of the registry (default: PARAFFIN_URL)')
  .option('--key <key>', 'a key that may WORK (default: PARAFFIN_API_KEY, which other users of the machine cannot see)')
  .option(
    '--beside-server',
    'this machine has the PARAFFIN_DATA_DIR and the import folders of the server: take imports too, and read stored files in place',
  )
  .option('--settings <file>', 'lines such as PARAFFIN_API_KEY=…, in a file that only its owner may read')
  .action(async ({ once, run, settings, url, key, besideServer }) => {
    if ((once === true) !== (run !== undefined))
      throw new CommandFailure({
        exitCode: EXIT.INVALID_ARGUMENTS,
        message: '--once and --run belong together.',
        hint: 'For example: paraffin worker --once --run 0198a7c2-…',
      });
    const code = await runProgram(
      WORKER_PROGRAM,
      [
        ...(run === undefined ? [] : ['--run', run]),
        ...(settings === undefined ? [] : ['--settings', settings]),
        ...(url === undefined ? [] : ['--url', url]),
        ...(besideServer === undefined ? [] : ['--beside-server']),
      ],
      key === undefined ? {} : { PARAFFIN_API_KEY: key },
    );
    const onceCode = run === undefined ? undefined : ONE_SHOT_CODES.find((known) => known === code);
    if (onceCode !== undefined) process.exitCode = onceCode;
    else if (code !== 0)
      throw new CommandFailure({
        exitCode: code === null ? EXIT.INTERRUPTED : EXIT.NOT_DONE,
        message: 'The worker ended; the reason is in its log.',
      });
  });

const ONE_SHOT_CODES: readonly number[] = [EXIT.DONE, EXIT.RUN_NOT_SUCCEEDED, EXIT.RUN_REQUEUED, EXIT.RUN_NOT_TAKEN];

const KINDS: Readonly<Record<RunKind, true>> = {
  IMPORT: true,
  PRETRAINING: true,
  EVALUATION: true,
  EXPORT: true,
  EMBEDDING: true,
};

export const launcherCommand = command('launcher', {
  summary: 'place waiting runs on a Slurm or Kubernetes cluster',
  details:
    'Submits a job for each waiting run, which starts "paraffin worker --once" on the cluster, and looks after the jobs until it is stopped; the jobs go on without it. It needs the address of the server in --url or PARAFFIN_URL and the key of an OPERATOR in PARAFFIN_API_KEY or --key-file. With --slurm, run it on a login node, or anywhere with --ssh; it hands its own PARAFFIN_* settings over to the workers in the file worker.env of --folder. With --kubernetes, run it in the cluster (docker/kubernetes has the manifests), or anywhere beside "kubectl proxy"; it hands them over in a Secret. Before it begins it asks the cluster whether it would take a job: "sbatch --test-only", or a dry run.',
  examples: [
    'launcher --slurm --folder ~/paraffin-jobs --template site.sbatch --check',
    'launcher --slurm --folder ~/paraffin-jobs --template site.sbatch',
    'launcher --slurm --folder /home/me/paraffin-jobs --ssh me@login.cluster.example --ssh-control-path ~/.ssh/cm-%C',
    'launcher --kubernetes --image registry.example/paraffin-worker-gpu --gpus 1 --queue lab   # in a pod',
    'launcher --kubernetes --image registry.example/paraffin-worker --api http://127.0.0.1:8001 --namespace lab --check',
  ],
})
  .addOption(new Option('--slurm', 'place runs by sbatch, squeue, sacct and scancel').conflicts('kubernetes'))
  .addOption(new Option('--kubernetes', 'place runs as Jobs').conflicts('slurm'))
  .option('--folder <folder>', 'Slurm: for settings and logs of jobs; the nodes must see it')
  .option(
    '--template <file>',
    'what your site adds: for Slurm lines such as "#SBATCH --partition=gpu", then commands; for Kubernetes JSON such as {"nodeSelector": {"pool": "gpu"}}',
  )
  .option('--paraffin <command>', 'Slurm: the paraffin command on the nodes (default: this one, at the same path)')
  .option(
    '--settings <name>',
    'Slurm: file of the workers on the nodes (default: written into --folder); Kubernetes: Secret with an entry worker.env (default: written by the launcher)',
  )
  .option(
    '--name <name>',
    'name of this launcher; each launcher of a registry has its own (default: slurm or kubernetes)',
  )
  .option('--kinds <kinds>', 'kinds of runs that it places (default: pretraining, evaluation)', listOf(oneOf(KINDS)))
  .option('--jobs <count>', 'jobs that may be open at the same time', wholeNumberFrom(1, PLACEMENTS_AT_ONCE_MAX), 20)
  .option('--every <seconds>', 'pause between two rounds', wholeNumberFrom(1), 15)
  .option(
    '--warn <seconds>',
    'how long before its time limit a worker keeps its state and ends',
    wholeNumberFrom(30),
    120,
  )
  .option('--url <url>', 'the server (default: PARAFFIN_URL)')
  .option('--key-file <file>', 'file with the key (default: PARAFFIN_API_KEY)')
  .option('--ssh <user@host>', 'Slurm: run its commands on this login node, through a connection that is open already')
  .option('--ssh-control-path <path>', 'ControlPath of that connection (default: that of your ssh configuration)')
  .option('--image <name>', 'Kubernetes: image of the workers (docker/worker.Dockerfile)')
  .option('--namespace <name>', 'Kubernetes: where the Jobs belong (default: that of the launcher)')
  .option('--api <url>', 'Kubernetes: address of "kubectl proxy" (default: the cluster in which the launcher runs)')
  .option('--queue <name>', 'Kubernetes: LocalQueue of Kueue (default: none)')
  .option('--cpus <count>', 'Kubernetes: processors of each job', numberFrom(0.1), 2)
  .option('--memory <gib>', 'Kubernetes: memory of each job, in GiB', wholeNumberFrom(1), 8)
  .option('--disk <gib>', 'Kubernetes: volume of each job, in GiB', wholeNumberFrom(1), 50)
  .option('--gpus <count>', 'Kubernetes: GPUs of each job', wholeNumberFrom(0), 0)
  .option('--gpu-resource <name>', 'Kubernetes: what its device plugin calls them', 'nvidia.com/gpu')
  .option('--limit <hours>', 'Kubernetes: time limit of each job, in which waiting counts', numberFrom(0.1), 24)
  .option('--check', 'only check the template, the way to the cluster and the way to the server')
  .action(async (options) => {
    const env = readEnvironment();
    const url = options.url ?? env.url;
    if (url === undefined || (env.apiKey === undefined && options.keyFile === undefined))
      throw new CommandFailure({
        exitCode: EXIT.INVALID_ARGUMENTS,
        message: 'A launcher needs the address of the server and a key.',
        hint: 'Set PARAFFIN_URL, and PARAFFIN_API_KEY to a key with the role OPERATOR (paraffin keys add).',
      });
    const cluster = clusterOf(options);
    const handed: LauncherOptions = {
      name: options.name ?? cluster.kind.toLowerCase(),
      url: url.replace(/\/+$/, ''),
      keyFile: options.keyFile,
      kinds: [...(options.kinds ?? (['PRETRAINING', 'EVALUATION', 'EMBEDDING'] as const))],
      jobsMax: options.jobs,
      everySeconds: options.every,
      template: options.template,
      warnSeconds: options.warn,
      checkOnly: options.check === true,
      cluster,
    };
    const code = await runProgram(LAUNCHER_PROGRAM, [JSON.stringify(handed)]);
    if (code !== 0) process.exitCode = code === null ? EXIT.INTERRUPTED : EXIT.NOT_DONE;
  });

/** @throws CommandFailure if what this kind of cluster needs is missing. */
function clusterOf(options: ReturnType<typeof launcherCommand.opts>): LauncherOptions['cluster'] {
  if (options.slurm === true && options.folder !== undefined)
    return {
      kind: 'SLURM',
      folder: options.ssh === undefined ? path.resolve(options.folder) : options.folder,
      paraffin: options.paraffin?.split(' ').filter((word) => word !== '') ?? [PARAFFIN_PROGRAM],
      settings: options.settings,
      sshHost: options.ssh,
      sshControlPath: options.sshControlPath,
    };
  if (options.kubernetes === true && options.image !== undefined)
    return {
      kind: 'KUBERNETES',
      image: options.image,
      namespace: options.namespace,
      apiUrl: options.api,
      settings: options.settings,
      queue: options.queue,
      cpus: options.cpus,
      memoryGib: options.memory,
      diskGib: options.disk,
      gpus: options.gpus,
      gpuResource: options.gpuResource,
      limitSeconds: Math.round(options.limit * 3_600),
    };
  throw new CommandFailure({
    exitCode: EXIT.INVALID_ARGUMENTS,
    message:
      options.slurm === true
        ? '--slurm needs --folder, which the nodes must see.'
        : options.kubernetes === true
          ? '--kubernetes needs --image, the image of the workers.'
          : 'Say where runs are placed: --slurm or --kubernetes.',
    hint: 'paraffin launcher --help has an example of each.',
  });
}

/**
 * Runs one of the programs outside `src` and forwards signals to it.
 * @returns its exit code; null if a signal ended it.
 */
function runProgram(
  program: string,
  args: readonly string[],
  settings: Readonly<Record<string, string>> = {},
): Promise<number | null> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', program, ...args], {
    stdio: 'inherit',
    env: childEnvironment(settings),
  });
  // SIGUSR1 comes from a scheduler whose time limit is near.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1'] as const)
    process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => child.once('error', reject).once('exit', resolve));
}

export const doctorCommand = command('doctor', {
  summary: 'check this machine: versions, missing parts, speed of its devices',
  details:
    'Prints library, devices, memory, free space and versions, and measures a matrix multiplication and a convolution on each device, one second each, in a separate process. Exit code 1 if there is a problem.',
  examples: ['doctor', 'doctor --json'],
})
  .option('--json', 'print one JSON document')
  .action(async (options) => {
    process.exitCode = await (await import('./doctor.ts')).doctor(options);
  });

export const demoCommand = command('demo', {
  summary: 'run everything once: import, pretrain, evaluate, download',
  details:
    'Runs everything once, in three to five minutes on 2 cores: installs the TensorFlow engine, starts PostgreSQL, server and worker, imports images, pretrains a ResNet-18 by SimCLR, shows for each labelled set whether the encoder beats a random one by linear probe, downloads the checkpoint and verifies it. Writes summary.json into the data directory and stops everything that it started.',
  examples: ['demo', 'demo --data ~/my-patches --steps 300'],
})
  .option(
    '--data <folder>',
    'folder of images, one subfolder for each label (default: tissue-like drawings, marked SYNTHETIC everywhere)',
  )
  .option('--steps <count>', 'of pretraining', wholeNumberFrom(1), 450)
  .action(async (options) => {
    process.exitCode = await (await import('./demo/command.ts')).demo(options);
  });

export const engineCommand = command('engine', {
  summary: 'install the TensorFlow engine',
  details:
    "Downloads TensorFlow 2.21 with pip, checks its sha256, compiles the Node binding with g++, and stores both in PARAFFIN_ENGINE_CACHE_DIR (default: ~/.cache/paraffin/engine), which all clones share. With an NVIDIA driver of 525.60 or newer it installs the CUDA build, with NVIDIA's libraries from the same index. Needs python3 with pip, and g++ (Debian: apt-get install python3-pip g++). It also compiles our decoder of JPEG and PNG images, if the headers of libjpeg-turbo and libpng are installed (Debian: apt-get install libjpeg62-turbo-dev libpng-dev); without it, images are decoded at a third of the speed.",
  examples: ['engine', 'engine --build cpu'],
})
  .addOption(
    new Option(
      '--build <name>',
      'cpu (274 MB), or cuda (573 MB, and about 2 GB of CUDA libraries); default: cuda with an NVIDIA driver, otherwise cpu',
    ).choices(ENGINE_BUILD_NAMES),
  )
  .action(async ({ build }) => {
    await (await import('./engine.ts')).engine(build);
  });

const slideInfoCommand = command('info', {
  summary: 'show what a whole slide is: vendor, levels, microns per pixel',
  details:
    'Opens a whole slide (SVS, NDPI, MRXS, SCN, VMS, BIF, pyramidal TIFF, CZI, DICOM) with OpenSlide in a separate process, and prints vendor, size, levels, microns per pixel and where they were learned. Names, labels and free text of the slide are neither read nor printed. Exit code 1 if it cannot be read or does not state its microns per pixel.',
  examples: ['slides info /data/slides/S1.svs', 'slides info S1.ndpi --json'],
})
  .argument('<file>', 'a slide on this machine')
  .option('--json', 'print one JSON document')
  .action(async (file, { json }) => {
    process.exitCode = await (await import('./slides.ts')).slideInfo(file, json === true);
  });

const slideInstallCommand = command('install', {
  summary: 'install OpenSlide, which reads whole slides',
  details:
    "Downloads openslide-bin (3 MB) with pip, checks its sha256 and keeps it beside the engine. The first command that reads a slide does the same by itself; without it the system's libopenslide is used.",
  examples: ['slides install'],
}).action(async () => {
  const { installSlideReader, versionOfSlideReader } = await import('./slides.ts');
  process.stdout.write(`${await versionOfSlideReader(await installSlideReader())} is ready.\n`);
});

export const slideCommands = group('slides', 'whole slides: those of a version, and the reader on this machine')
  .addCommand(listSlidesCommand)
  .addCommand(slideInfoCommand)
  .addCommand(slideInstallCommand);

export const tissueCommand = command('tissue', {
  summary: 'draw tissue-like SYNTHETIC images for a first try',
  details:
    'Draws tissue-like SYNTHETIC images, one subfolder for each label, and a labels.csv with groups. They are drawings: useful for trying Paraffin out, useless as data.',
  examples: ['tissue --out .paraffin/imports/tissue --images 40'],
})
  .requiredOption('--out <folder>', 'created if missing')
  .option('--images <count>', 'images of each label', wholeNumberFrom(1), 60)
  .option('--size <px>', 'side of an image', wholeNumberFrom(32), 256)
  .option('--seed <number>', 'random seed; the same seed draws the same images', wholeNumberFrom(0), 1)
  .action(async ({ out, images, size, seed }) => {
    const outDir = path.resolve(out);
    await (
      await import('../synthetic/tissue.ts')
    ).drawTissue({ outDir, imagesPerLabel: images, imageSizePx: size, seed, groups: 10 });
    process.stdout.write(`Drawn into ${outDir}\n`);
  });
