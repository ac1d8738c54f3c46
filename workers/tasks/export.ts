/**
 * Export: turns a checkpoint's stored weights into files for other frameworks. Each file is loaded and compared with
 * the engine before it is stored.
 */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DomainError } from '../../src/errors.ts';
import type { EncoderExport } from '../../src/formats/encoder-export.ts';
import { writeExport, type ExportFormat } from '../../src/formats/export-formats.ts';
import { readSafetensors } from '../../src/formats/safetensors.ts';
import type { WorkerArtifacts } from '../registry/artifacts.ts';
import { checkExport, checkReference, type CheckReference } from '../exports/check.ts';
import { openEncoder } from '../engine/encoders/index.ts';
import { engineInfo } from '../engine/tensorflow.ts';
import { goldenOf } from './golden.ts';
import type { Task } from './task.ts';
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
    const { architecture, inputContract } = checkpoint;
    const { tensors } = readSafetensors(await context.artifacts.read(checkpoint.sha256));
    const encoder = openEncoder(architecture, tensors, inputContract.pooling);
    const golden = goldenOf(encoder, inputContract);
    const reference = checkReference(encoder, architecture, inputContract);
    encoder.dispose();

    const source: EncoderExport = {
      architecture,
      tensors,
      inputContract,
      metadata: exportMetadataOf(checkpoint.sha256),
    };
    const exports: NewExport[] = [];
    for (const [index, format] of config.formats.entries()) {
      context.throwIfStopped();
      await context.progress((index + 0.5) / (config.formats.length + 1), `Writing and checking ${format}.`);
      const file = path.join(context.workDir, `encoder.${format.toLowerCase()}`);
      await writeFile(file, writeExport(format, source));
      const exported = await provenExport(format, file, reference, context.artifacts);
      if (exported.status === 'REFUSED') context.logger.error(exported, 'an export failed its check');
      exports.push(exported);
    }
    return {
      message: ['Measured the golden embedding.', ...exports.map(describe)].join(' '),
      outcome: { kind: 'EXPORT', golden, exports },
    };
  },
};

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
