/** API types and fields of what a run needs of its worker. */
import { enumType, extendType, inputObjectType, objectType } from '../../api/nexus.ts';
import { DEVICE_KINDS, describeRequirements } from '../../protocol/requirements.ts';

const DESCRIPTIONS = {
  device: 'Null: any.',
  bfloat16:
    'Kernels for bfloat16: a processor with AVX-512, or a GPU. A pretraining with that precision always needs it.',
  memoryMiB: 'Main memory in MiB; a worker with several places promises each an equal part of its own.',
  gpuMemoryMiB: 'Memory of the GPU in MiB; it implies the device GPU.',
  labels: "The worker must have each of these (its PARAFFIN_WORKER_LABELS): 1 to 63 letters, digits, '.', '-' and '_'.",
} as const;

export const DeviceKind = enumType({ name: 'DeviceKind', members: DEVICE_KINDS });

export const RunRequirements = objectType({
  name: 'RunRequirements',
  description: 'What a worker must have to take a run. The longest duration is the maxDurationSeconds of the run.',
  definition(t) {
    t.string('sentence', {
      description: 'Such as "a GPU, bfloat16, 32 GiB of memory"; null if the run needs nothing.',
    });
    t.field('device', { type: 'DeviceKind', description: DESCRIPTIONS.device });
    t.nonNull.boolean('bfloat16', { description: DESCRIPTIONS.bfloat16 });
    t.int('memoryMiB', { description: DESCRIPTIONS.memoryMiB });
    t.int('gpuMemoryMiB', { description: DESCRIPTIONS.gpuMemoryMiB });
    t.nonNull.list.nonNull.string('labels', { description: DESCRIPTIONS.labels });
  },
});

export const RunRequirementsInput = inputObjectType({
  name: 'RunRequirementsInput',
  description: 'What a worker must have to take the run; what is left out is not needed.',
  definition(t) {
    t.field('device', { type: 'DeviceKind', description: DESCRIPTIONS.device });
    t.boolean('bfloat16', { description: DESCRIPTIONS.bfloat16 });
    t.int('memoryMiB', { description: DESCRIPTIONS.memoryMiB });
    t.int('gpuMemoryMiB', { description: DESCRIPTIONS.gpuMemoryMiB });
    t.list.nonNull.string('labels', { description: DESCRIPTIONS.labels });
  },
});

export const RunRequirementsField = extendType({
  type: 'Run',
  definition(t) {
    t.nonNull.field('requirements', {
      type: 'RunRequirements',
      resolve: ({ requirements }) => ({
        ...requirements,
        labels: [...requirements.labels],
        sentence: describeRequirements(requirements),
      }),
    });
  },
});
