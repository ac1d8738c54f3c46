/**
 * `npm run bench`: compares our implementation with its peers, in one run on the same cores.
 *
 *   npm run bench                                  everything, as tables (about six minutes on two cores)
 *   npm run bench -- --json                        one JSON document on standard output, progress on standard error
 *   npm run bench -- --suite training,import       only these suites
 */
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { installEngine } from '../src/cli/engine.ts';
import { readEnvironment } from '../src/env.ts';
import { benchCatalogue } from './catalogue.ts';
import { benchDownload } from './download.ts';
import { benchEmbedding } from './embedding.ts';
import { benchImport } from './import.ts';
import { benchMixing } from './mixing.ts';
import { benchProtocol } from './protocol.ts';
import { benchReading } from './reading.ts';
import { benchS3 } from './s3.ts';
import { measureServerMemory, withServer } from './server.ts';
import { benchSlides } from './slides.ts';
import { benchTraining } from './training.ts';
import { benchWeights } from './weights.ts';

const HELP = `usage: npm run bench [-- --suite training,input,reading,import,catalogue,download,s3,weights,embedding,protocol,slides] [-- --s3-endpoint URL] [-- --s3-megabytes 1000] [-- --tiatoolbox PYTHON] [-- --json] [-- --rounds 5] [-- --grid]

Each suite measures our implementation and a peer in turn and prints medians, range and ratio: on a shared machine a time alone means little.

  training   a whole SimCLR step, against one in PyTorch 2.13, channels-last, in a virtual environment that pip fills (--grid: ResNet-50, large batches)
  input      decoding and augmenting, against the speed of a training
  reading    shuffled batches of shards, against torch's DataLoader; how well the window of shards mixes
  import     checking and packing JPEGs, against the decoder alone
  catalogue  50 rows over GraphQL, against a minimal Apollo server with hand-written SQL
  download   a 45 MB checkpoint, against plain Node streaming
  s3         uploads to and downloads from the store of --s3-endpoint, 1 GB, against curl, and rclone and the AWS CLI where installed
  weights    importing a Lightning checkpoint, loading safetensors, embedding stored images, against PyTorch, safetensors and ONNX Runtime in Python
  embedding  patches of 224 px by ResNets and vision transformers, against ONNX Runtime with their exports
  protocol   a training step that is reported to a server over HTTP, against one that is not
  slides     tissue and patches of whole slides of a gigapixel, against openslide-python in an environment that pip fills, and TIAToolbox in the Python of --tiatoolbox
`;

const SUITES = [
  'training',
  'input',
  'reading',
  'import',
  'catalogue',
  'download',
  's3',
  'weights',
  'embedding',
  'protocol',
  'slides',
] as const;
type Suite = (typeof SUITES)[number];

const { values } = parseArgs({
  options: {
    suite: { type: 'string' },
    json: { type: 'boolean' },
    grid: { type: 'boolean' },
    's3-endpoint': { type: 'string' },
    's3-megabytes': { type: 'string', default: '1000' },
    tiatoolbox: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    help: { type: 'boolean', short: 'h' },
  },
});
if (values.help === true) {
  process.stdout.write(HELP);
  process.exit(0);
}
const wanted = values.suite?.split(',') ?? [...SUITES];
const unknown = wanted.filter((name) => !SUITES.some((suite) => suite === name));
if (unknown.length > 0) {
  process.stderr.write(`Unknown suite: ${unknown.join(', ')}.\n\n${HELP}`);
  process.exit(2);
}
const rounds = Number(values.rounds);
const isWanted = (suite: Suite): boolean => wanted.includes(suite);
const report = (message: string): void => void process.stderr.write(`${message}\n`);

const results: Record<string, unknown> = {
  machine: {
    cpu: os.cpus()[0]?.model,
    cores: os.availableParallelism(),
    loadAtStart: os.loadavg()[0],
    node: process.version,
  },
};
if (['training', 'input', 'weights', 'embedding', 'protocol'].some((suite) => wanted.includes(suite)))
  await installEngine();
if (isWanted('training')) {
  report('training: ours and PyTorch, in turn');
  results['training'] = await benchTraining({
    peerDir: path.join(readEnvironment().engineCacheDir, '..', 'bench-peer'),
    rounds,
    grid: values.grid === true,
    onProgress: report,
  });
}
if (isWanted('input')) {
  report('input pipeline');
  // Imported here, after the variable is set, because TensorFlow otherwise prints a greeting on standard error.
  process.env['TF_CPP_MIN_LOG_LEVEL'] = '2';
  results['input'] = await (await import('./input.ts')).benchInput();
}
if (isWanted('reading')) {
  report('reading: ours and torch DataLoader, in turn');
  results['reading'] = {
    speed: await benchReading({
      pythonDir: path.join(readEnvironment().engineCacheDir, '..', 'compat'),
      rounds,
      onProgress: report,
    }),
    mixing: benchMixing(),
  };
}
if (isWanted('import')) {
  report('import: ours and the decoder alone, in turn');
  results['import'] = await benchImport();
}
if (isWanted('catalogue')) {
  report('catalogue: ours and a minimal Apollo server, in turn');
  results['catalogue'] = await withServer(async (server) => {
    const catalogue = await benchCatalogue({ graphqlUrl: `${server.url}/graphql`, databaseUrl: server.databaseUrl });
    return { ...catalogue, serverPeakMemoryMegabytes: await measureServerMemory(server) };
  });
}
if (isWanted('download')) {
  report('download: ours and plain Node, in turn');
  results['download'] = await benchDownload();
}
if (isWanted('s3')) {
  const endpoint = values['s3-endpoint'];
  if (endpoint === undefined) report('s3: left out, because --s3-endpoint names no store');
  else {
    report('s3: ours and curl, in turn');
    results['s3'] = await benchS3({ endpoint, rounds, byteSize: Number(values['s3-megabytes']) * 1_000_000 });
  }
}
if (isWanted('weights')) {
  report('weights: ours and Python, in turn');
  results['weights'] = await benchWeights({
    pythonDir: path.join(readEnvironment().engineCacheDir, '..', 'compat'),
    rounds,
    onProgress: report,
  });
}

if (isWanted('embedding')) {
  report('embedding: ours and ONNX Runtime, in turn');
  results['embedding'] = await benchEmbedding({
    pythonDir: path.join(readEnvironment().engineCacheDir, '..', 'compat'),
    rounds,
    onProgress: report,
  });
}

if (isWanted('protocol')) {
  report('protocol: steps with and without reports, in turn');
  results['protocol'] = await withServer((server) => benchProtocol(server, rounds));
}

if (isWanted('slides')) {
  report('slides: ours and openslide-python, in turn');
  results['slides'] = await benchSlides({
    pythonDir: path.join(readEnvironment().engineCacheDir, '..', 'bench-slides'),
    rounds,
    tiatoolboxPython: values.tiatoolbox ?? null,
    onProgress: report,
  });
}

process.stdout.write(values.json === true ? `${JSON.stringify(results, null, 2)}\n` : `${asText(results)}\n`);

/** Nested results as indented lines that a person can read. */
function asText(value: unknown, indent = ''): string {
  if (typeof value !== 'object' || value === null)
    return String(typeof value === 'number' ? Math.round(value * 1000) / 1000 : value);
  return Object.entries(value)
    .map(([key, item]) =>
      typeof item === 'object' && item !== null
        ? `${indent}${key}\n${asText(item, `${indent}  `)}`
        : `${indent}${key}: ${asText(item)}`,
    )
    .join('\n');
}
