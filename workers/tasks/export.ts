/**
 * Export: turns a checkpoint's stored weights into files for other frameworks. Each file is loaded and compared with
 * the engine before it is stored.
 */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DomainError } from '../../src/errors.ts';
import type { EncoderExport } from '../../src/formats/encoder-export.ts';
import { writeExport, type ExportFormat } from '../../src/formats/export-formats.ts';
import type { WorkerArtifacts } from '../registry/artifacts.ts';
import { checkExport, checkReference, type CheckReference } from '../exports/check.ts';
import { openEncoder } from '../engine/encoders/index.ts';
import type { NamedTensor } from '../engine/named-tensor.ts';
import { engineInfo } from '../engine/tensorflow.ts';
import { goldenOf } from './golden.ts';
import { withStoredWeights } from './stored-weights.ts';
import type { Task, TaskContext, TaskResult } from './task.ts';
import { weightsRounding } from './weights-rounding.ts';
import type { UsableCheckpoint } from '../../src/protocol/checkpoint.ts';
import { exportConfigSchema, exportMetadataOf, type NewExport } from '../../src/protocol/export.ts';

export const exportTask: Task = {
  kind: 'EXPORT',
  run: async (context, rawConfig) => {
    const config = exportConfigSchema.parse(rawConfig);
    await context.registry.setEnvironment({ environment: { engine: engineInfo() } });
    const checkpoint = await context.registry.checkpoint({ id: config.checkpointId });
    if (checkpoint.sha256 !== config.checkpointSha256)
      throw new DomainError({
        code: 'CONFLICT',
        message: 'The checkpoint has other weights than at launch.',
        hint: 'Launch the export again.',
      });
    return withStoredWeights(context, checkpoint.sha256, (tensors) =>
      exportsOf(context, config.formats, checkpoint, tensors),
    );
  },
};

async function exportsOf(
  context: TaskContext,
  formats: readonly ExportFormat[],
  { sha256, architecture, inputContract }: UsableCheckpoint,
  tensors: readonly NamedTensor[],
): Promise<TaskResult> {
  const encoder = openEncoder(architecture, tensors, inputContract.pooling);
  const measured = goldenOf(encoder, inputContract);
  const reference = checkReference(encoder, architecture, inputContract);
  // Only one set of weights is on the device at a time.
  encoder.dispose();
  const golden = { ...measured, rounding: weightsRounding(architecture, tensors, inputContract, measured) };

  const source: EncoderExport = { architecture, tensors, inputContract, metadata: exportMetadataOf(sha256) };
  const exports: NewExport[] = [];
  for (const [index, format] of formats.entries()) {
    context.throwIfStopped();
    await context.progress((index + 0.5) / (formats.length + 1), `Writing and checking ${format}.`);
    const file = path.join(context.workDir, `encoder.${format.toLowerCase()}`);
    const written = writtenExport(format, source);
    if (!('status' in written)) await writeFile(file, written);
    const exported = 'status' in written ? written : await provenExport(format, file, reference, context.artifacts);
    if (exported.status === 'REFUSED') context.logger.error(exported, 'an export failed its check');
    exports.push(exported);
  }
  return {
    message: ['Measured the golden embedding.', ...exports.map(describe)].join(' '),
    outcome: { kind: 'EXPORT', golden, exports },
  };
}

/** A format has no room for every encoder: a zip ends at 4 GiB. */
function writtenExport(format: ExportFormat, source: EncoderExport): Uint8Array<ArrayBuffer> | NewExport {
  try {
    return writeExport(format, source);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { format, status: 'REFUSED', maxRelativeDifference: null, reason: error.message };
  }
}

/** Checks a file on the disk and stores exactly those bytes if it passes; a file that fails is never stored. */
export async function provenExport(
  format: ExportFormat,
  file: string,
  reference: CheckReference,
  artifacts: Pick<WorkerArtifacts, 'put'>,
): Promise<NewExport> {
  const bytes = await readFile(file);
  const verdict = await checkExport(format, bytes, reference);
  if (!verdict.passed)
    return { format, status: 'REFUSED', maxRelativeDifference: verdict.maxRelativeDifference, reason: verdict.reason };
  return {
    format,
    status: 'AVAILABLE',
    maxRelativeDifference: verdict.maxRelativeDifference,
    ...(await artifacts.put(bytes)),
  };
}

function describe(exported: NewExport): string {
  return exported.status === 'AVAILABLE'
    ? `${exported.format} differs by ${exported.maxRelativeDifference.toExponential(1)}.`
    : `${exported.format} is refused: ${exported.reason}`;
}
