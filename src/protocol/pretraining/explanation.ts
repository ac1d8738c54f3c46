/** Explains the settings of a pretraining in sentences for the user who launched it. */
import { formatDuration, reserveSeconds } from './budget.ts';
import { methodInWords, type MethodConfig } from './methods/index.ts';
import type { OptimizerConfig, OptimizerName } from './optimizer.ts';
import type { RecipeName } from './recipe.ts';

export type Precision = 'FLOAT32' | 'BFLOAT16';

/** The training speed of a worker's device, measured over a few real steps. */
export interface MeasuredSpeed {
  readonly precision: Precision;
  readonly imageSizePx: number;
  readonly imagesPerSecond: number;
}

/** The settings named at the launch; all others are from the recipe. */
export interface Named {
  readonly optimizer: boolean;
  readonly learningRate: boolean;
  readonly imageSizePx: boolean;
  readonly precision: boolean;
  /** Whether the crops' range was named. */
  readonly crop: boolean;
}

export interface ExplainedPretraining {
  readonly recipe: RecipeName;
  readonly imageCount: number;
  readonly steps: number;
  readonly epochs: number;
  readonly batchSize: number;
  readonly imageSizePx: number;
  readonly viewSizePx: number;
  readonly warmupSteps: number;
  readonly learningRate: number;
  readonly precision: Precision;
  readonly optimizer: OptimizerConfig;
  readonly method: MethodConfig;
  readonly named: Named;
  readonly budget: {
    readonly seconds: number;
    /** The measurements; the last one determines the steps. */
    readonly speeds: readonly MeasuredSpeed[];
  } | null;
}

const OPTIMIZER_WORDS: Readonly<Record<OptimizerName, string>> = {
  LARS: 'LARS',
  SGD: 'SGD',
  ADAM: 'Adam',
  ADAMW: 'AdamW',
};
const PRECISION_WORDS: Readonly<Record<Precision, string>> = { FLOAT32: 'float32', BFLOAT16: 'bfloat16' };

const count = (value: number): string => Math.round(value).toLocaleString('en');
/** A number rounded to three significant digits, without an exponent: 1,234.5 as `1230`. */
export const shortNumber = (value: number): string => String(Number(value.toPrecision(3)));

/** @returns three to five sentences; none for a run without training steps. */
export function explainPretraining(run: ExplainedPretraining): string[] {
  if (run.steps === 0) return [];
  return [sentenceOfSteps(run), ...sentencesOfSpeed(run), sentenceOfOptimizer(run), methodInWords(run.method)];
}

function sentenceOfSteps({ budget, steps, batchSize, imageSizePx, viewSizePx, ...run }: ExplainedPretraining) {
  const views = viewSizePx === imageSizePx ? '' : ` by views of ${viewSizePx} px`;
  const work = `${count(steps)} steps of ${count(batchSize)} images at ${imageSizePx} px${views}, ${shortNumber(run.epochs)} epochs of ${count(run.imageCount)} images`;
  if (budget === null) return `${work}.`;
  const speed = speedOf(budget.speeds, run.precision, imageSizePx);
  return `${formatDuration(budget.seconds)} at ${shortNumber(speed ?? 0)} images/s: ${work}; ${formatDuration(reserveSeconds(budget.seconds))} are reserved for storing and registering the encoder.`;
}

function sentencesOfSpeed({ budget, precision, imageSizePx, named, recipe }: ExplainedPretraining): string[] {
  if (budget === null) return [];
  const [float32, bfloat16] = (['FLOAT32', 'BFLOAT16'] as const).map((each) =>
    speedOf(budget.speeds, each, budget.speeds[0]?.imageSizePx ?? imageSizePx),
  );
  const sentences: string[] = [];
  if (!named.precision && float32 !== undefined)
    sentences.push(
      bfloat16 === undefined
        ? 'float32, because this device cannot train in bfloat16.'
        : `${PRECISION_WORDS[precision]}, because float32 trained ${shortNumber(float32)} images/s here and bfloat16 ${shortNumber(bfloat16)}.`,
    );
  if (!named.imageSizePx && recipe === 'DEFAULT')
    sentences.push(`Images of ${imageSizePx} px: larger images would be seen too few times within the budget.`);
  return sentences;
}

function sentenceOfOptimizer({ optimizer, learningRate, batchSize, warmupSteps, named, recipe }: ExplainedPretraining) {
  const rate = `a peak learning rate of ${shortNumber(learningRate)}`;
  const by = [
    named.optimizer ? 'the optimizer as given' : `the optimizer of the recipe ${recipe}`,
    named.learningRate ? 'the rate as given' : `the rate of the recipe ${recipe} for batches of ${count(batchSize)}`,
  ].join(', ');
  return `${OPTIMIZER_WORDS[optimizer.name]} at ${rate} (${by}), reached after ${count(warmupSteps)} steps.`;
}

function speedOf(speeds: readonly MeasuredSpeed[], precision: Precision, imageSizePx: number): number | undefined {
  return speeds.findLast((speed) => speed.precision === precision && speed.imageSizePx === imageSizePx)
    ?.imagesPerSecond;
}
