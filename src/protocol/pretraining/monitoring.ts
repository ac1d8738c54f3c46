/** The frozen settings of how a pretraining is monitored: its probe, and the states that become checkpoints. */
import { z } from 'zod';

/** One to continue from, and the one before it, should the last be damaged. */
export const KEEP_STATES_DEFAULT = 2;

const probeConfigSchema = z.object({
  datasetVersionId: z.string(),
  digest: z.string(),
  /** The version's name `slug@version` at launch. */
  datasetVersionName: z.string(),
  /** Null means that the engine decides, from the steps, the batch and the images of the probe. */
  everySteps: z.number().int().nullable(),
});
export type ProbeConfig = z.infer<typeof probeConfigSchema>;

/** The frozen settings. Older runs have no probe and register only their last step. */
export const monitoringConfigFields = {
  probe: probeConfigSchema.nullable().default(null),
  /** Steps, in addition to the last, after which the encoder is registered, ascending. */
  registerSteps: z.array(z.number().int()).default([]),
  /** Whether the state with the best probe is registered at the end. */
  registerBest: z.boolean().default(false),
  /** Training states that stay while the run goes on: the last ones, beside the best and those of registerSteps. */
  keepStates: z.number().int().default(KEEP_STATES_DEFAULT),
};
export type MonitoringConfig = z.infer<z.ZodObject<typeof monitoringConfigFields>>;

export const NOT_MONITORED: MonitoringConfig = {
  probe: null,
  registerSteps: [],
  registerBest: false,
  keepStates: KEEP_STATES_DEFAULT,
};
