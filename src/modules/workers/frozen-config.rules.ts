/** What the worker of a pretraining may decide, and what its launch has decided. Pure. */
import { DomainError } from '../../errors.ts';
import { digestOfInput } from '../../input.ts';
import { frozenPretrainingSchema, type FrozenPretraining } from '../../protocol/pretraining/config.ts';
import type { RunKind } from '../../protocol/runs.ts';

/**
 * The model that the encoder becomes a version of, and what it is trained on: with another value here, the token of a
 * run would register encoders in other models, or with training data that they have not seen.
 */
const DECIDED_AT_LAUNCH = ['modelSlug', 'datasets', 'encoder', 'initialCheckpointId', 'seed'] as const;

/**
 * The number of steps, the sizes of images, the precision and the order of images depend on the device or the program.
 * @throws DomainError BAD_INPUT for a config that changes anything else, and for a run of another kind.
 */
export function requireSameLaunch(
  run: { readonly kind: RunKind; readonly config: unknown },
  config: FrozenPretraining,
): void {
  if (run.kind !== 'PRETRAINING')
    throw new DomainError({
      code: 'BAD_INPUT',
      message: `The config of a run of the kind ${run.kind} cannot be changed.`,
      hint: 'Only a pretraining is planned by its worker.',
    });
  const launched = frozenPretrainingSchema.parse(run.config);
  const changed = DECIDED_AT_LAUNCH.find(
    (name) => digestOfInput({ [name]: launched[name] }) !== digestOfInput({ [name]: config[name] }),
  );
  if (changed === undefined) return;
  throw new DomainError({
    code: 'BAD_INPUT',
    message: `The launch of the run has decided ${changed}, and its worker cannot change it.`,
    field: `input.config.${changed}`,
    hint: 'Start from the config that came with the claim.',
  });
}
