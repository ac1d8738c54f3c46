/**
 * What every first-order optimizer has in common: it takes each parameter's gradient, refuses gradients that are not
 * finite, changes the weights in place, and saves and restores its state. Optimizers differ only in their `UpdateRule`.
 */
import { Variable } from '../kernels/variable.ts';
import { fromDevice, takeGradient, toDevice } from '../models/parameter.ts';
import type { Parameter } from '../models/parameter.ts';
import type { TensorExpectation } from '../../../src/formats/tensor-check.ts';
import type { NamedTensor } from '../named-tensor.ts';
import { runOp, scoped, T_FLOAT, tf } from '../tensorflow.ts';
import type { Tensor } from '../tensorflow.ts';

const PREFIX = 'optimizer.';

/** A gradient contains a number that is not finite. No parameter has changed. */
export class NonFiniteGradientError extends Error {
  constructor(parameterName: string) {
    super(`The gradient of ${parameterName} is not finite; a lower learning rate or a higher temperature may help.`);
    this.name = 'NonFiniteGradientError';
  }
}

/** A parameter, the variable that holds its weight on the device, and the optimizer's state for it. */
export class Slot {
  readonly parameter: Parameter;
  readonly moments: ReadonlyMap<string, Variable>;
  readonly #weight: Variable;

  /** @param momentNames the names of the moments; each moment has the shape of the parameter and starts at zero. */
  constructor(parameter: Parameter, momentNames: readonly string[]) {
    this.parameter = parameter;
    this.#weight = new Variable(parameter.value);
    const zeros = tf.zeros(parameter.value.shape);
    this.moments = new Map(momentNames.map((name) => [name, new Variable(zeros)]));
    zeros.dispose();
  }

  moment(name: string): Variable {
    const moment = this.moments.get(name);
    if (moment === undefined) throw new Error(`The optimizer keeps no ${name} of ${this.parameter.name}.`);
    return moment;
  }

  /** Changes the weight in place and puts the new value into the parameter. */
  change(work: (weight: Variable) => void): void {
    // The old value is freed first, so that only the variable holds the numbers and the update needs no copy.
    this.parameter.value.dispose();
    work(this.#weight);
    this.parameter.value = this.#weight.read();
  }

  dispose(): void {
    this.#weight.dispose();
    for (const moment of this.moments.values()) moment.dispose();
  }
}

/**
 * A slot with its gradient of this step, to which `UpdateRule.l2` has been applied, and the Euclidean norms of both.
 */
export interface SlotGradient {
  readonly slot: Slot;
  readonly gradient: Tensor;
  readonly gradientNorm: number;
  /** NaN unless the rule `readsWeightNorms`. */
  readonly weightNorm: number;
}

export interface StepFacts {
  /** 0 for the first step of the training. */
  readonly stepIndex: number;
  readonly learningRate: number;
}

/** How one step changes every weight. */
export interface UpdateRule {
  /**
   * Names of the tensors that the rule keeps for each parameter. A saved state calls them
   * `optimizer.<name>.<parameter>`, or `optimizer.<parameter>` for the empty name.
   */
  readonly momentNames: readonly string[];
  /** L2: this multiple of each weight is added to its gradient beforehand; biases and batch norms are exempt. */
  readonly l2: number;
  readonly readsWeightNorms: boolean;
  update(gradients: readonly SlotGradient[], step: StepFacts): void;
  /** Frees the constants that the rule keeps on the device. */
  dispose(): void;
}

/**
 * A step that has begun but is not applied yet. The trainer reads the norms from the device together with the loss,
 * because a device that computes in parallel to this program stalls at each read.
 */
export interface OptimizerStep {
  /** [n]: half the squared norm of each gradient, followed by that of each weight if the rule reads them. */
  readonly halfSquaredNorms: Tensor;
  /**
   * Replaces the value of every parameter. Call it only once.
   * @param read the values of `halfSquaredNorms`.
   * @throws NonFiniteGradientError before anything changes.
   */
  apply(step: StepFacts, read: Float32Array): void;
  /** Frees the gradients, whether or not they were applied. */
  dispose(): void;
}

/** A learning rate as scalars on the device, one for each factor that parameters have. */
export class Rates {
  readonly #rate: number;
  readonly #byFactor = new Map<number, Tensor>();

  constructor(rate: number) {
    this.#rate = rate;
  }

  of({ rateFactor }: Pick<Parameter, 'rateFactor'>): Tensor {
    const known = this.#byFactor.get(rateFactor);
    if (known !== undefined) return known;
    const made = tf.scalar(this.#rate * rateFactor);
    this.#byFactor.set(rateFactor, made);
    return made;
  }

  dispose(): void {
    for (const rate of this.#byFactor.values()) rate.dispose();
  }
}

export class Optimizer {
  readonly #rule: UpdateRule;
  readonly #slots: readonly Slot[];

  /** From now on the optimizer puts a new `value` into each parameter at every step. */
  constructor(parameters: readonly Parameter[], rule: UpdateRule) {
    this.#rule = rule;
    this.#slots = parameters.map((parameter) => new Slot(parameter, rule.momentNames));
  }

  /** Takes every parameter's gradient and begins a step with it. No parameter changes until the step is applied. */
  prepare(): OptimizerStep {
    const gradients = this.#slots.map(({ parameter }) => this.#withL2(parameter, takeGradient(parameter)));
    const measured = this.#rule.readsWeightNorms
      ? [...gradients, ...this.#slots.map(({ parameter }) => parameter.value)]
      : gradients;
    const norms = scoped(() => halfSquaredNorms(measured));
    return {
      halfSquaredNorms: norms,
      apply: (step, read) => this.#rule.update(this.#measured(gradients, read), step),
      dispose: () => tf.dispose([...gradients, norms]),
    };
  }

  /** Takes the gradient and returns it with the L2 term added, if there is one. */
  #withL2(parameter: Parameter, gradient: Tensor): Tensor {
    const { l2 } = this.#rule;
    if (parameter.role !== 'WEIGHT' || l2 === 0) return gradient;
    const sum = new Variable(gradient);
    // Now only the variable holds the numbers, and adds to them without a copy.
    gradient.dispose();
    sum.addScaled(parameter.value, l2);
    const value = sum.read();
    sum.dispose();
    return value;
  }

  #measured(gradients: readonly Tensor[], read: Float32Array): SlotGradient[] {
    const normAt = (index: number): number => Math.sqrt(2 * (read[index] ?? Number.NaN));
    return this.#slots.map((slot, index) => {
      const gradient = gradients[index];
      if (gradient === undefined) throw new Error(`${slot.parameter.name} has no gradient.`);
      const gradientNorm = normAt(index);
      if (!Number.isFinite(gradientNorm)) throw new NonFiniteGradientError(slot.parameter.name);
      return { slot, gradient, gradientNorm, weightNorm: normAt(this.#slots.length + index) };
    });
  }

  /** The rule's state, in each parameter's layout outside the device. */
  state(): NamedTensor[] {
    return this.#slots.flatMap(({ parameter, moments }) =>
      [...moments].map(([momentName, moment]) => {
        const value = moment.read();
        const named = fromDevice(stateName(momentName, parameter.name), value, parameter.layout);
        value.dispose();
        return named;
      }),
    );
  }

  /** @param tensors the tensors of `state`, checked against `stateExpectations`. */
  restore(tensors: ReadonlyMap<string, NamedTensor>): void {
    for (const { parameter, moments } of this.#slots) {
      for (const [momentName, moment] of moments) {
        const name = stateName(momentName, parameter.name);
        const tensor = tensors.get(name);
        if (tensor === undefined) throw new Error(`${name} is missing from a state that was checked.`);
        const value = toDevice(tensor, parameter.layout);
        moment.assign(value);
        value.dispose();
      }
    }
  }

  dispose(): void {
    for (const slot of this.#slots) slot.dispose();
    this.#rule.dispose();
  }
}

/** The tensors that `restore` requires, derived from the expected weights of the parameters. */
export function stateExpectations(
  { momentNames }: Pick<UpdateRule, 'momentNames'>,
  parameters: readonly TensorExpectation[],
): TensorExpectation[] {
  return parameters.flatMap((expectation) =>
    momentNames.map((momentName) => ({ ...expectation, name: stateName(momentName, expectation.name) })),
  );
}

function stateName(momentName: string, parameterName: string): string {
  return momentName === '' ? `${PREFIX}${parameterName}` : `${PREFIX}${momentName}.${parameterName}`;
}

/** Half the squared Euclidean norm of each tensor: [tensors]. */
function halfSquaredNorms(tensors: readonly Tensor[]): Tensor {
  return tf.stack(tensors.map((tensor) => runOp('L2Loss', [T_FLOAT], [tensor])));
}

/** @throws RangeError unless `value` is in [0, 1). */
export function checkDecayRate(name: string, value: number): void {
  if (!(value >= 0 && value < 1)) throw new RangeError(`${name} must be in [0, 1), not ${value}.`);
}

/** @throws RangeError unless `value` is 0 or more and finite. */
export function checkNonNegative(name: string, value: number): void {
  if (!(value >= 0 && Number.isFinite(value))) throw new RangeError(`${name} must be 0 or more, not ${value}.`);
}
