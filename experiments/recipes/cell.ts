/**
 * Measures one cell in a separate process: trains (unless PyTorch has done so), embeds and probes. Reads a job as JSON
 * from standard input and prints its result as JSON.
 */
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { colourStatistics } from '../../workers/engine/probe/colour-statistics.ts';
import { runLinearProbe } from '../../workers/engine/probe/linear-probe.ts';
import { mostProbable } from '../../src/statistics/classification-score.ts';
import { jobSchema, type CellResult } from './cell-result.ts';
import { trainAndEmbed } from './train.ts';

/** The same folds for every cell, so that all are paired. */
const PROBE_SEED = 1;
const FOLDS = 4;

const job = jobSchema.parse(JSON.parse(await text(process.stdin)));
const trained = await embed();
const predictions: Record<string, string> = {};
for (const probe of job.probes) {
  const dim = trained.embeddings.length / job.imageCount;
  const embeddings = new Float32Array(probe.rows.length * dim);
  probe.rows.forEach((row, index) =>
    embeddings.set(trained.embeddings.subarray(row * dim, (row + 1) * dim), index * dim),
  );
  const result = await runLinearProbe({
    embeddings,
    labels: Int32Array.from(probe.labels),
    labelNames: probe.labelNames,
    groups: probe.groups,
    folds: FOLDS,
    seed: PROBE_SEED,
    bootstrapResamples: 0,
    ...(probe.splits === null ? {} : { splits: probe.splits }),
  });
  predictions[probe.name] = mostProbable(result.probabilities, probe.labelNames.length).join('');
}
const result: CellResult = { lastLoss: trained.lastLoss, imagesPerSecond: trained.imagesPerSecond, predictions };
process.stdout.write(`${JSON.stringify(result)}\n`);

async function embed(): Promise<{ embeddings: Float32Array; lastLoss: number | null; imagesPerSecond: number | null }> {
  switch (job.trainer) {
    case 'ENGINE':
      return trainAndEmbed({ ...job, pixels: await readBytes(job.pixelsPath) });
    case 'PYTORCH': {
      const bytes = await readFile(job.embeddingsPath);
      return {
        embeddings: new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4),
        lastLoss: null,
        imagesPerSecond: null,
      };
    }
    case 'COLOUR':
      return {
        embeddings: colourStatistics(await readBytes(job.pixelsPath), job.imageCount),
        lastLoss: null,
        imagesPerSecond: null,
      };
  }
}

/** Reads the whole file, even if it exceeds the 2 GiB limit of readFile. */
async function readBytes(file: string): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 24 })) chunks.push(Buffer.from(chunk));
  return new Uint8Array(Buffer.concat(chunks));
}
