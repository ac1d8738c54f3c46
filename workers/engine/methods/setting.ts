import { describeEncoder, usualPooling, type Architecture } from '../../../src/formats/encoders/index.ts';
import { openTrainableEncoder, type TrainingOptions } from '../encoders/index.ts';
import type { MethodSetting } from './method.ts';

/** The setting of a method that trains encoders of this architecture. */
export function methodSettingOf(
  architecture: Architecture,
  { computeDtype }: Pick<TrainingOptions, 'computeDtype'> = {},
): MethodSetting {
  const description = describeEncoder(architecture);
  const pooling = usualPooling(description);
  return {
    architecture,
    embeddingDim: description.embeddingDim(pooling),
    encoderTensors: description.tensors.map(({ name, kind, shape, required }) => ({
      name,
      dtype: kind === 'BATCH_COUNT' ? 'I64' : 'F32',
      shape,
      required,
    })),
    openEncoder: (tensors) => openTrainableEncoder(architecture, tensors, pooling, { computeDtype }),
  };
}
