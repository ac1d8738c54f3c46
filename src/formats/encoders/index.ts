/** Encoders as data: what a network is called, which tensors it has, and how long its embeddings are. */
import { isDeepStrictEqual } from 'node:util';
import type { Architecture, EncoderTensorSpec, Pooling } from './architecture.ts';
import type { EncoderDescription } from './family.ts';
import { ENCODER_FAMILIES } from './registry.ts';
import { RESNET_ARCHITECTURES } from './resnet/specification.ts';
import { VIT_PRESET_NAMES } from './vit/presets.ts';

export { architectureSchema, POOLINGS, WEIGHTS_DTYPES } from './architecture.ts';
export type { Architecture, EncoderTensorSpec, Pooling, WeightsDtype } from './architecture.ts';
export type { EncoderDescription, EncoderFamily } from './family.ts';

/**
 * The network that an architecture specifies.
 *
 * @throws RangeError for an unknown family, and ZodError or RangeError for a specification that is not one of the
 * family's.
 */
export function describeEncoder({ family, specification }: Architecture): EncoderDescription {
  const found = ENCODER_FAMILIES.find((each) => each.family === family);
  if (found === undefined) throw new RangeError(`No encoder family is called ${family}.`);
  return found.describe(specification);
}

/** Encoders that the API's enum names, and that a training can make; every other one is OTHER there. */
export const NAMED_ENCODERS = [...RESNET_ARCHITECTURES, ...VIT_PRESET_NAMES] as const;
export type NamedEncoder = (typeof NAMED_ENCODERS)[number];

/** The architecture that a name of the API's enum stands for. */
export function architectureNamed(encoder: NamedEncoder): Architecture {
  for (const { names } of ENCODER_FAMILIES) {
    const description = names.named(encoder);
    if (description !== undefined) return description.architecture;
  }
  throw new RangeError(`No encoder family has a network that is called ${encoder}.`);
}

/** The API's name of an encoder, if it is exactly the network that the name stands for. */
export function encoderNameOf({
  name,
  architecture,
}: Pick<EncoderDescription, 'name' | 'architecture'>): NamedEncoder | 'OTHER' {
  const named = NAMED_ENCODERS.find((each) => each === name);
  return named !== undefined && isDeepStrictEqual(architectureNamed(named), architecture) ? named : 'OTHER';
}

/** Encoders that an evaluation by fine-tuning can train. */
export const FINE_TUNABLE_ENCODERS = RESNET_ARCHITECTURES;

/** Numbers that a training changes. */
export function parameterCountOf({ tensors }: Pick<EncoderDescription, 'tensors'>): number {
  return tensors.reduce((sum, tensor) => sum + (tensor.kind === 'WEIGHT' ? elementCount(tensor) : 0), 0);
}

function elementCount({ shape }: EncoderTensorSpec): number {
  return shape.reduce((product, side) => product * side, 1);
}

/** The pooling that a network is trained with, and used with unless a contract says otherwise. */
export function usualPooling({ poolings: [first] }: Pick<EncoderDescription, 'poolings'>): Pooling {
  if (first === undefined) throw new RangeError('A network without a pooling has no embedding.');
  return first;
}
