/** How a pretraining is monitored: its probe, and the states that become checkpoints. Pure. */
import { z } from 'zod';
import { DomainError, type ErrorCode } from '../../errors.ts';
import { KEEP_STATES_DEFAULT, type MonitoringConfig } from '../../protocol/pretraining/monitoring.ts';

const REGISTER_STEPS_MAX = 100;
const KEEP_STATES_MAX = 1000;
/** The probe divides each label's images by three. */
const PROBE_IMAGES_PER_LABEL_MIN = 3;

const stepSchema = z.number().int().min(1, 'must be at least 1');

/** The part of `LaunchPretrainingInput` that configures the probe and the registered states. */
export const monitoringInputFields = {
  probe: z
    .strictObject({
      enabled: z.boolean().nullish(),
      datasetVersionId: z.uuid().toLowerCase().nullish(),
      everySteps: stepSchema.nullish(),
    })
    .nullish(),
  registerSteps: z.array(stepSchema).max(REGISTER_STEPS_MAX, `must be at most ${REGISTER_STEPS_MAX}`).nullish(),
  registerBest: z.boolean().nullish(),
  keepStates: z
    .number()
    .int()
    .min(1, 'must be at least 1')
    .max(KEEP_STATES_MAX, `must be at most ${KEEP_STATES_MAX}`)
    .nullish(),
};
export type MonitoringInput = z.infer<z.ZodObject<typeof monitoringInputFields>>;

/** The facts of a version that decide whether it can be probed on. */
export interface ProbeVersionFacts {
  readonly id: string;
  readonly digest: string;
  readonly labelCounts: readonly { readonly label: string; readonly count: number }[];
}

/** The reason why a version cannot be probed on; null if it can. */
function faultOfProbeVersion({ labelCounts }: ProbeVersionFacts): { code: ErrorCode; message: string } | null {
  if (labelCounts.length === 0)
    return {
      code: 'PROBE_UNLABELLED',
      message: 'The images of this version have no labels, so a probe is not possible.',
    };
  if (labelCounts.length === 1)
    return {
      code: 'PROBE_UNLABELLED',
      message: `All labelled images of this version are "${labelCounts[0]?.label ?? ''}": a probe needs two labels.`,
    };
  const imageCount = labelCounts.reduce((sum, { count }) => sum + count, 0);
  const usable = labelCounts.filter(({ count }) => count >= PROBE_IMAGES_PER_LABEL_MIN);
  if (imageCount < labelCounts.length || usable.length < 2)
    return {
      code: 'PROBE_TOO_SMALL',
      message: `This version has ${imageCount} labelled images of ${labelCounts.length} labels; a probe needs at least two labels of ${PROBE_IMAGES_PER_LABEL_MIN} images each.`,
    };
  return null;
}

/** Whether a run can be probed on the version. */
export function isProbeable(version: ProbeVersionFacts): boolean {
  return faultOfProbeVersion(version) === null;
}

/** @throws DomainError PROBE_UNLABELLED or PROBE_TOO_SMALL. */
export function checkProbeVersion(version: ProbeVersionFacts): void {
  const fault = faultOfProbeVersion(version);
  if (fault === null) return;
  throw new DomainError({
    ...fault,
    field: 'input.probe.datasetVersionId',
    hint: 'Name a version with labels, or launch without a probe (probe: { enabled: false }).',
  });
}

/**
 * Freezes the settings of the probe and of the registered states.
 * @param version the version to probe on, named in the input or chosen by rule; null if there is none.
 * @throws DomainError BAD_INPUT for contradictory settings, PROBE_UNLABELLED for a requested probe without a version.
 */
export function freezeMonitoring(
  { probe, registerSteps, registerBest, keepStates }: MonitoringInput,
  version: (ProbeVersionFacts & { readonly name: string }) | null,
): MonitoringConfig {
  const isDisabled = probe?.enabled === false;
  if (isDisabled && (probe.datasetVersionId != null || probe.everySteps != null))
    throw new DomainError({
      code: 'BAD_INPUT',
      message: 'The probe is disabled, but has settings.',
      field: 'input.probe.enabled',
      hint: 'Leave out enabled, or leave out datasetVersionId and everySteps.',
    });
  if (!isDisabled && version === null && (probe != null || registerBest === true))
    throw new DomainError({
      code: 'PROBE_UNLABELLED',
      message: 'None of the datasets has a version with at least two labels to probe on.',
      field: 'input.probe.datasetVersionId',
      hint: 'Name a labelled version of another dataset, or launch without a probe.',
    });
  if (isDisabled && registerBest === true)
    throw new DomainError({
      code: 'BAD_INPUT',
      message: 'registerBest needs a probe, which decides which state is the best.',
      field: 'input.registerBest',
      hint: 'Enable the probe, or list steps in registerSteps.',
    });
  return {
    probe:
      isDisabled || version === null
        ? null
        : {
            datasetVersionId: version.id,
            digest: version.digest,
            datasetVersionName: version.name,
            everySteps: probe?.everySteps ?? null,
          },
    registerSteps: [...new Set(registerSteps ?? [])].sort((left, right) => left - right),
    registerBest: registerBest ?? false,
    keepStates: keepStates ?? KEEP_STATES_DEFAULT,
  };
}

/** @throws DomainError BAD_INPUT for a step that the run never reaches. */
export function checkRegisterSteps({ registerSteps }: Pick<MonitoringConfig, 'registerSteps'>, steps: number): void {
  const beyond = registerSteps.find((step) => step > steps);
  if (beyond === undefined) return;
  throw new DomainError({
    code: 'BAD_INPUT',
    message: `registerSteps contains step ${beyond}, but the run ends at step ${steps}.`,
    field: 'input.registerSteps',
    hint: `Use steps of at most ${steps}.`,
  });
}
