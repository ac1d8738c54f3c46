/** What `npm run bench:device` prints: one JSON document that a person with a GPU sends to us. */
import { z } from 'zod';

export const BENCHED_ENCODERS = ['RESNET18', 'RESNET50'] as const;
export type BenchedEncoder = (typeof BENCHED_ENCODERS)[number];
const encoder = z.enum(BENCHED_ENCODERS);
const precision = z.enum(['float32', 'bfloat16']);
export type Precision = z.infer<typeof precision>;

/** A part that did not run says why in one sentence. */
const skipped = z.object({ kind: z.literal('SKIPPED'), why: z.string() });
const part = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('RAN'), passed: z.boolean(), seconds: z.number().nonnegative(), ...shape }),
    skipped,
    // The end of the output of the process that failed.
    z.object({ kind: z.literal('FAILED'), seconds: z.number().nonnegative(), error: z.string() }),
  ]);

const stepDifference = z.object({
  encoder,
  precision,
  /** |device - CPU| / |CPU| of the loss. */
  loss: z.number(),
  /** |device - CPU| / |CPU| of all gradients as one vector; the CPU computes in float32. */
  gradient: z.number(),
  /**
   * The largest difference that passes: a multiple of what the CPU itself differs by, in float32 when the images change
   * by one unit in the last place, in bfloat16 from float32. A fixed one where the CPU has no bfloat16.
   */
  gradientLimit: z.number(),
  /** Views that the augmenter made on both: mean of the differences of their values, which are in -1..1. */
  views: z.number(),
});
export type StepDifference = z.infer<typeof stepDifference>;

const speed = z.object({
  encoder,
  precision,
  viewSidePx: z.number(),
  /** Halved until a step fits into the memory. */
  batchSize: z.number(),
  /** Two views of each image: median over the steps. */
  imagesPerSecond: z.number().positive(),
  stepMs: z.number().positive(),
});

export const deviceReportSchema = z.object({
  format: z.literal('paraffin-device-report-1'),
  /** True: made without a GPU, to try the bench out. Its speeds mean nothing. */
  isTrial: z.boolean(),
  passed: z.boolean(),
  seconds: z.number(),
  /** Load average of the last minute, before and after. */
  loadAverage: z.tuple([z.number(), z.number()]),
  machine: z.object({
    cpuModel: z.string(),
    coreCount: z.number(),
    node: z.string(),
    engine: z.object({ library: z.string(), version: z.string(), device: z.enum(['CPU', 'GPU']) }),
    gpu: z.object({ name: z.string(), uuid: z.string(), driver: z.string(), memoryMiB: z.number() }).nullable(),
  }),
  parts: z.object({
    /** `paraffin doctor --json`. */
    doctor: part({ devices: z.array(z.unknown()), problems: z.array(z.string()) }),
    /** Ops of a step that have no kernel for a GPU, and are computed on the host with copies. */
    kernels: part({ opCount: z.number(), onHost: z.array(z.string()) }),
    parity: part({ steps: z.array(stepDifference) }),
    speed: part({ trainings: z.array(speed), leftOut: z.array(z.string()) }),
    /** Each training ran twice in processes of its own. */
    determinism: part({
      trainings: z.array(
        z.object({ encoder, precision, stepCount: z.number(), digests: z.tuple([z.string(), z.string()]) }),
      ),
    }),
    cancel: part({
      status: z.string(),
      /** From the request until the run was CANCELED. */
      cancelMs: z.number(),
      /** Of the run that the same device took next. */
      nextStatus: z.string(),
      /** Of the GPU, used before the run and after its end; null without a GPU. */
      memoryUsedMiB: z.tuple([z.number(), z.number()]).nullable(),
    }),
    memory: part({
      /** What TensorFlow said, and how the worker would report it. */
      message: z.string(),
      failureClass: z.string(),
      /** The step that failed left the trainer as it was, and the next one gave the same result as without it. */
      continued: z.boolean(),
    }),
  }),
});
export type DeviceReport = z.infer<typeof deviceReportSchema>;
export type DeviceParts = DeviceReport['parts'];
