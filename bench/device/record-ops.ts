/**
 * Records every op that TensorFlow runs, those of tfjs and those that the engine runs by name. Import it before the
 * engine, which takes its functions from the binding when it is loaded.
 */
import '../../workers/engine/node-util-compat.ts';
import * as tf from '@tensorflow/tfjs-node-gpu';
import { z } from 'zod';

export interface UsedOp {
  readonly name: string;
  /** TensorFlow's number of the type of each type attribute. */
  readonly types: ReadonlyMap<string, number>;
  /** Names the kernel that the op asks for; usually empty. */
  readonly label: string;
}

/** So far, each with its types once. */
export function usedOps(): UsedOp[] {
  return [...used.values()];
}

const used = new Map<string, UsedOp>();
const attributesSchema = z.array(z.object({ name: z.string(), type: z.number(), value: z.unknown() }));
const backend = tf.backend();
const binding: unknown = Reflect.get(backend, 'binding');
if (typeof binding !== 'object' || binding === null) throw new Error('tfjs has no binding of TensorFlow.');
const executeOp: unknown = Reflect.get(binding, 'executeOp');
if (typeof executeOp !== 'function') throw new Error('The binding of tfjs has no executeOp.');
const typeKind: unknown = Reflect.get(binding, 'TF_ATTR_TYPE');

const recorded: unknown = Object.create(binding, {
  executeOp: {
    value: (name: string, attrs: unknown, ...rest: unknown[]): unknown => {
      const attributes = attributesSchema.parse(attrs);
      const types = new Map(
        attributes.flatMap(({ name: attr, type, value }) =>
          type === typeKind ? [[attr, Number(value)] as const] : [],
        ),
      );
      const label = String(attributes.find((attr) => attr.name === '_kernel')?.value ?? '');
      used.set(JSON.stringify([name, label, ...types]), { name, types, label });
      return Reflect.apply(executeOp, binding, [name, attrs, ...rest]);
    },
  },
});
Reflect.set(backend, 'binding', recorded);
