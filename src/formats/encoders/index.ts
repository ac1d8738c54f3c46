/** Encoders as data: what a network is called, which tensors it has, and how long its embeddings are. */
import type { Architecture, EncoderTensorSpec, Pooling } from './architecture.ts';
import type { EncoderDescription } from './family.ts';
import { ENCODER_FAMILIES } from './registry.ts';
import { RESNET_ARCHITECTURES, resnetArchitecture } from './resnet/specification.ts';

export { architectureSchema, POOLINGS } from './architecture.ts';
export type { Architecture, EncoderTensorSpec, Pooling } from './architecture.ts';
export type { EncoderDescription, EncoderFamily } from './family.ts';

/**
 * The network that an architecture specifies.
 *
 * @throws RangeError for an unknown family, and ZodError for a specification that the family does not understand.
 */
export function describeEncoder({ family, specification }: Architecture): EncoderDescription {
  const found = ENCODER_FAMILIES.find((each) => each.family === family);
  if (found === undefined) throw new RangeError(`No encoder family is called ${family}.`);
  return found.describe(specification);
}

/** Encoders that the API's enum names; every other one is OTHER there. */
export const NAMED_ENCODERS = RESNET_ARCHITECTURES;
export type NamedEncoder = (typeof NAMED_ENCODERS)[number];

/** The architecture that a name of the API's enum stands for. */
export function architectureNamed(encoder: NamedEncoder): Architecture {
  return resnetArchitecture(encoder);
}

/** The API's name of an encoder. */
export function encoderNameOf({ name }: Pick<EncoderDescription, 'name'>): NamedEncoder | 'OTHER' {
  return NAMED_ENCODERS.find((each) => each === name) ?? 'OTHER';
}

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
