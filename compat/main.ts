/**
 * The compatibility run: weights made by real PyTorch, through Paraffin, and out to PyTorch, ONNX Runtime and
 * TensorFlow.js, embedding the same images on every side. Prints a table of format x encoder x greatest relative
 * difference; exits with 1 if one is above 1e-4 or could not be measured.
 *
 *   npm run compat -- [--all] [--browser] [--write] [--cache-dir DIR]
 *
 * --all      ResNet-101, ResNet-152 and the wide ResNet-50-2 too
 * --browser  TF.js in headless Chromium too
 * --write    writes the table to docs/compatibility.md
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { ResnetName } from '../src/formats/encoders/resnet/specification.ts';
import { ENGINE_PROCESS_ENV, PLAIN_CPU_ENV } from '../workers/engine/process-env.ts';
import { pythonSnippet } from '../web/src/pages/models/snippets.ts';
import { embedInBrowser } from './browser.ts';
import { compare, EXPORTS, IMPORTS, FLOAT32_BASELINE, VIT_COMPARISONS, VIT_NAMES, VIT_SIZES_PX } from './compare.ts';
import type { Comparison } from './compare.ts';
import { COMPAT_CONTRACT, SMALL_SIZE_PX, writeSharedImages } from './images.ts';
import { writeManifestSample } from './manifest-sample.ts';
import { run } from './process.ts';
import { compatCacheDir, preparePython } from './python-environment.ts';
import { writeSlideFeaturesSample } from './slide-features-sample.ts';
import { exportWeights, importCheckpoints } from './transfer.ts';
import { MAX_RELATIVE_DIFFERENCE } from '../src/protocol/export.ts';

/** The tolerance that the server applies to its exports. */
const TOLERANCE = MAX_RELATIVE_DIFFERENCE;
const STEP_TIMEOUT_MS = 600_000;
const PAGE_ENCODER = 'RESNET18';
const here = (name: string): string => path.join(import.meta.dirname, name);
const docsDir = path.join(import.meta.dirname, '..', 'docs');

interface Row {
  readonly label: string;
  readonly encoder: string;
  readonly outcome:
    { readonly kind: 'MEASURED'; readonly difference: number } | { readonly kind: 'FAILED'; readonly why: string };
}

const { values: options } = parseArgs({
  options: {
    all: { type: 'boolean', default: false },
    browser: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    'cache-dir': { type: 'string' },
  },
});
const encoders: readonly ResnetName[] = [
  'RESNET18',
  'RESNET34',
  'RESNET50',
  ...(options.all ? (['RESNET101', 'RESNET152', 'WIDE_RESNET50_2'] as const) : []),
];
const cacheDir = options['cache-dir'] ?? compatCacheDir();
const report = (message: string): void => console.error(message);
process.exitCode = await main();

async function main(): Promise<number> {
  const python = await preparePython(cacheDir, report);
  const workDir = await mkdtemp(path.join(os.tmpdir(), 'paraffin-compat-'));
  try {
    await writeSharedImages(workDir);
    const versions: Record<string, string> = { node: process.versions.node };
    const stepFaults: string[] = [];
    const step = async (what: string, work: () => Promise<unknown>): Promise<void> => {
      const startedAt = performance.now();
      try {
        const facts = await work();
        if (typeof facts === 'string' && facts.trim() !== '')
          Object.assign(versions, JSON.parse(facts.trim().split('\n').at(-1) ?? '{}'));
        report(`${what}: ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        stepFaults.push(`${what}: ${why}`);
        report(`${what} FAILED: ${why}`);
      }
    };
    const inPython = (script: string) =>
      run({ program: python, args: [here(script), workDir, ...encoders], timeoutMs: STEP_TIMEOUT_MS });
    const node = (script: string, args: readonly string[]) =>
      run({
        program: process.execPath,
        args: ['--disable-warning=ExperimentalWarning', here(script), workDir, ...args, ...encoders],
        env: { ...ENGINE_PROCESS_ENV, ...PLAIN_CPU_ENV },
        timeoutMs: STEP_TIMEOUT_MS,
      });

    await step('torchvision makes weights and embeds', () => inPython('reference.py'));
    for (const encoder of encoders) {
      await step(`Paraffin exports ${encoder}`, () => exportWeights(path.join(workDir, encoder), encoder));
      await step(`Paraffin imports ${encoder}`, () => importCheckpoints(path.join(workDir, encoder), encoder));
    }
    await step("Paraffin's engine embeds", () => node('engine.ts', []));
    await step('safetensors, PyTorch and ONNX Runtime load and embed', () => inPython('load_exports.py'));
    await step('The lines of docs/formats.md run', () =>
      run({
        program: python,
        args: [here('documented.py'), workDir, path.join(docsDir, 'formats.md')],
        timeoutMs: STEP_TIMEOUT_MS,
      }),
    );
    await step('The lines of docs/manifest.md run', async () => {
      const manifest = path.join(workDir, 'manifest.parquet');
      const { rowCount, ungroupedCount } = await writeManifestSample(manifest);
      const page = path.join(docsDir, 'manifest.md');
      const args = [here('documented_manifest.py'), manifest, page, String(rowCount), String(ungroupedCount)];
      return run({ program: python, args, timeoutMs: STEP_TIMEOUT_MS });
    });
    await step('The script of docs/slides.md runs', async () => {
      const folder = path.join(workDir, 'slides');
      await writeSlideFeaturesSample(folder);
      const args = [here('documented_slides.py'), folder, path.join(docsDir, 'slides.md')];
      return run({ program: python, args, timeoutMs: STEP_TIMEOUT_MS });
    });
    await step("The Python of a model's page runs", async () => {
      await writeFile(
        path.join(workDir, PAGE_ENCODER, 'model_page.txt'),
        pythonSnippet({
          id: '',
          sha256: null,
          encoder: PAGE_ENCODER,
          embeddingDim: 512,
          inputContract: COMPAT_CONTRACT,
        }),
      );
      return run({
        program: python,
        args: [here('model_page.py'), workDir, PAGE_ENCODER],
        timeoutMs: STEP_TIMEOUT_MS,
      }).then(() => undefined);
    });
    await step('TensorFlow.js loads and embeds', () => node('tfjs-node.ts', []));
    const comparisons: Comparison[] = [FLOAT32_BASELINE, ...IMPORTS, ...EXPORTS];
    if (options.browser) {
      await step('TensorFlow.js in Chromium loads and embeds', () => embedInBrowser(workDir, encoders));
      for (const backend of ['cpu', 'webgl'])
        comparisons.push({
          label: `Paraffin -> TF.js in Chromium (${backend})`,
          actual: `chromium-${backend}`,
          reference: 'engine-weights',
          sizesPx: [SMALL_SIZE_PX],
        });
    }
    const inTimm = (command: 'make' | 'load') =>
      run({ program: python, args: [here('vit_models.py'), command, workDir], timeoutMs: STEP_TIMEOUT_MS });
    await step('timm makes vision transformers and embeds', () => inTimm('make'));
    await step('Paraffin imports, embeds and exports vision transformers', () =>
      run({
        program: process.execPath,
        args: ['--disable-warning=ExperimentalWarning', here('vit-engine.ts'), workDir, ...VIT_NAMES],
        env: { ...ENGINE_PROCESS_ENV, ...PLAIN_CPU_ENV },
        timeoutMs: STEP_TIMEOUT_MS,
      }),
    );
    await step('timm and ONNX Runtime load vision transformers and embed', () => inTimm('load'));
    const rows: Row[] = [];
    const tables: string[] = [];
    for (const [names, compared] of [
      [encoders, comparisons],
      [VIT_NAMES, VIT_COMPARISONS],
    ] as const) {
      const own: Row[] = [];
      for (const comparison of compared)
        for (const encoder of names) own.push(await rowOf(comparison, encoder, workDir));
      rows.push(...own);
      tables.push(tableOf(own, compared, names));
    }
    const table = tables.join('\n\n');
    console.log(table);
    const failed = rows.filter(({ outcome }) => outcome.kind === 'FAILED' || !(outcome.difference <= TOLERANCE));
    for (const { label, encoder, outcome } of failed)
      report(
        `${label}, ${encoder}: ${outcome.kind === 'FAILED' ? outcome.why : `${outcome.difference} is more than ${TOLERANCE}`}`,
      );
    const allGreen = failed.length === 0 && stepFaults.length === 0;
    if (options.write && allGreen) await writeDocument(table, versions);
    return allGreen ? 0 : 1;
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

async function rowOf(comparison: Comparison, encoder: string, workDir: string): Promise<Row> {
  const { label } = comparison;
  const sizePx = VIT_SIZES_PX[encoder];
  const sizesPx = sizePx === undefined ? comparison.sizesPx : [sizePx];
  try {
    return {
      label,
      encoder,
      outcome: { kind: 'MEASURED', difference: await compare({ ...comparison, sizesPx }, path.join(workDir, encoder)) },
    };
  } catch (error) {
    const loadFaults = await readFile(path.join(workDir, encoder, 'load-faults.json'), 'utf8').catch(() => '{}');
    return {
      label,
      encoder,
      outcome: { kind: 'FAILED', why: `${error instanceof Error ? error.message : String(error)} ${loadFaults}` },
    };
  }
}

function tableOf(rows: readonly Row[], comparisons: readonly Comparison[], encoders: readonly string[]): string {
  const cell = (row: Row | undefined): string => {
    if (row === undefined || row.outcome.kind === 'FAILED') return 'FAILED';
    const { difference } = row.outcome;
    return `${difference.toExponential(1)}${difference <= TOLERANCE ? '' : ' TOO FAR'}`;
  };
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(['path of the weights', ...encoders]),
    line(['---', ...encoders.map(() => '---')]),
    ...comparisons.map(({ label }) =>
      line([
        label,
        ...encoders.map((encoder) => cell(rows.find((row) => row.label === label && row.encoder === encoder))),
      ]),
    ),
  ].join('\n');
}

async function writeDocument(table: string, versions: Readonly<Record<string, string>>): Promise<void> {
  const text = `# Compatibility

Written by \`npm run compat -- --all --browser --write\`; the run fails if a number is above ${TOLERANCE.toExponential(0)}.

Each number is the largest difference in any component of an embedding, divided by that embedding's root mean square, over three images
at 224 px and at 64 px (TF.js: only at 64 px; vision transformers: at 224 px, unless the column says another size). Imports are compared with torchvision's or timm's embedding, exports with Paraffin's own. The first row shows how much of the difference is float32 rounding.

${table}

With ${Object.entries(versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(', ')}.

What was checked for each library:
- Checkpoints are imported unchanged: the architecture and the prefix are detected, and every tensor is accounted for, including the paper's projection head.
- Safetensors: Paraffin reads files written by Python's library. Python's library loads files written by Paraffin, with identical bits and with the input contract in the metadata.
- PyTorch: \`torch.load(weights_only=True)\`, read and memory-mapped, then \`load_state_dict(strict=True)\` into torchvision's network with \`fc = Identity()\`.
- ONNX: \`onnx.checker\` with full shape inference, then ONNX Runtime on the CPU at two image sizes and two batch sizes.
- TF.js: the zip, unpacked by Python's \`zipfile\`, then \`tf.loadGraphModel\` with the plain JavaScript backend, and in a browser where a row says so.
`;
  await writeFile(path.join(docsDir, 'compatibility.md'), text);
}
