/** Export: a checkpoint's stored weights in, what proves them out. */
import { DomainError } from '../../src/errors.ts';
import { readSafetensors } from '../../src/formats/safetensors.ts';
import { exportConfigSchema } from '../../src/modules/exports/index.ts';
import { encoderFromWeights } from '../engine/models/resnet.ts';
import { engineInfo } from '../engine/tensorflow.ts';
import { goldenOf } from './golden.ts';
import type { Task } from './task.ts';

export const exportTask: Task = {
  kind: 'EXPORT',
  run: async (context, rawConfig) => {
    const config = exportConfigSchema.parse(rawConfig);
    await context.setEnvironment({ engine: engineInfo() });
    const checkpoint = await context.services.models.checkpointForUse(config.checkpointId, 'checkpointId');
    if (checkpoint.sha256 !== config.checkpointSha256) throw new DomainError({ code: 'CONFLICT', message: 'The checkpoint has other weights than at launch.', hint: 'Launch the export again.' });
    const encoder = encoderFromWeights(checkpoint.encoder, readSafetensors(await context.artifacts.read(checkpoint.sha256)).tensors);
    try {
      const golden = goldenOf(encoder, checkpoint.inputContract);
      return {
        message: 'Measured the golden embedding.',
        finish: (tx) => context.services.models.recordGolden(tx, checkpoint.id, golden),
      };
    } finally {
      encoder.dispose();
    }
  },
};
