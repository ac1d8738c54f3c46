/** Tables, charts and text of the experiment's report. */
import { drawChart, type ChartPoint, type ChartSeries } from './chart.ts';
import type { Arm, Plan, Question } from './plan.ts';
import type { ExperimentComparison, ExperimentEvaluation } from './registry.ts';

export const PROTOCOLS = ['LINEAR_PROBE', 'KNN'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** One arm under one seed on one test set. */
export interface Measured {
  readonly arm: string;
  readonly seed: number;
  readonly test: string;
  readonly protocol: Protocol;
  readonly evaluation: ExperimentEvaluation;
  /** Difference to the random encoder of the same seed; null for the random encoder itself. */
  readonly againstRandom: ExperimentComparison | null;
}

/** The page of each question, below the folder of the reports, and the folder of its pictures. */
export const PAGES: Readonly<Record<Question, string>> = { data: 'paper-mini', methods: 'paper-mini-methods' };

export interface Experiment {
  readonly question: Question;
  readonly arms: readonly Arm[];
  readonly tests: readonly string[];
  readonly plan: Plan;
  readonly measured: readonly Measured[];
  /** Lines on the setup, for the top of the page. */
  readonly setting: readonly string[];
}

export interface Report {
  readonly markdown: string;
  /** By file name. */
  readonly pictures: Readonly<Record<string, string>>;
}

const SHARE_ARMS = ['all 5 %', 'all 25 %', 'all 50 %', 'all'] as const;

export function reportOf(experiment: Experiment): Report {
  const { question, arms, tests } = experiment;
  const isOfData = question === 'data';
  const series = (names: readonly string[]) =>
    tests.flatMap((test) =>
      PROTOCOLS.map((protocol) => ({
        name: `${test}, ${protocol}`,
        points: names.map((arm) => pointOf(experiment, arm, test, protocol)),
      })),
    );
  const names = arms.map(({ name }) => name);
  const pictures = {
    'arms.svg': drawChart({
      title: isOfData ? 'What it was pretrained on' : 'How it was pretrained',
      valueLabel: 'macro F1, 95 % over groups',
      places: names,
      series: series(names),
      joined: false,
    }),
    ...(isOfData ? { 'images.svg': chartOfShares(series(SHARE_ARMS)) } : {}),
  };
  const markdown = [
    isOfData ? '# The paper in small' : '# The pretraining methods in small',
    '',
    '<!-- Written by npm run experiment:paper-mini; edit experiments/paper-mini/report.ts. -->',
    '',
    ...experiment.setting,
    '',
    '## Macro F1',
    '',
    ...tests.flatMap((test) => [...tableOf(experiment, test), '']),
    `![macro F1 of every arm](${PAGES[question]}/arms.png)`,
    '',
    ...(isOfData ? [`![how many images](${PAGES[question]}/images.png)`, ''] : []),
    'Dots are means over seeds; lines are the 95 % bootstrap intervals over groups, averaged over seeds. "against random" is the paired difference to the random encoder',
    'of the same seed over the same folds, by `compareEvaluations`; where its interval contains 0, the data does not distinguish the two.',
    '',
    '## The arms',
    '',
    ...arms.map(({ name, meaning }) => `- **${name}**: ${meaning}.`),
    '',
    '## What it shows, and what it does not',
    '',
    conclusionOf(experiment),
    '',
  ].join('\n');
  return { markdown, pictures };
}

function chartOfShares(series: readonly ChartSeries[]): string {
  return drawChart({
    title: 'How many of the images, at the same number of steps',
    valueLabel: 'macro F1, 95 % over groups',
    places: ['5 %', '25 %', '50 %', '100 %'],
    series,
    joined: true,
  });
}

function chosen({ measured }: Experiment, arm: string, test: string, protocol: Protocol): Measured[] {
  return measured.filter((each) => each.arm === arm && each.test === test && each.protocol === protocol);
}

function pointOf(experiment: Experiment, arm: string, test: string, protocol: Protocol): ChartPoint | null {
  const found = chosen(experiment, arm, test, protocol).flatMap(({ evaluation }) =>
    evaluation.metrics.filter(({ name }) => name === 'macroF1'),
  );
  return found.length === 0
    ? null
    : {
        value: mean(found.map(({ value }) => value)),
        low: mean(found.map(({ ci95Low }) => ci95Low)),
        high: mean(found.map(({ ci95High }) => ci95High)),
      };
}

/** The paired difference to the random encoder, means over seeds. */
function differenceOf(experiment: Experiment, arm: string, test: string, protocol: Protocol): ChartPoint | null {
  const found = chosen(experiment, arm, test, protocol).flatMap(
    ({ againstRandom }) => againstRandom?.metrics.filter(({ name }) => name === 'macroF1') ?? [],
  );
  return found.length === 0
    ? null
    : {
        value: mean(found.map(({ difference }) => difference)),
        low: mean(found.map(({ ci95Low }) => ci95Low)),
        high: mean(found.map(({ ci95High }) => ci95High)),
      };
}

function tableOf(experiment: Experiment, test: string): string[] {
  const rows = experiment.arms.map(({ name }) => {
    const cells = PROTOCOLS.flatMap((protocol) => [
      written(pointOf(experiment, name, test, protocol), ''),
      written(differenceOf(experiment, name, test, protocol), '+'),
    ]);
    const values = chosen(experiment, name, test, 'LINEAR_PROBE').flatMap(({ evaluation }) =>
      evaluation.metrics.filter((metric) => metric.name === 'macroF1').map(({ value }) => value),
    );
    const spread = values.length < 2 ? '' : `${Math.min(...values).toFixed(3)} .. ${Math.max(...values).toFixed(3)}`;
    const leakage = chosen(experiment, name, test, 'LINEAR_PROBE')[0]?.evaluation.leakage;
    const seen =
      leakage == null
        ? '?'
        : `${leakage.isUpperBound ? 'at most ' : ''}${leakage.exactImageCount ?? '?'} of ${leakage.testImageCount}`;
    return [name, ...cells, spread, seen];
  });
  const [first] = chosen(experiment, 'random', test, 'LINEAR_PROBE');
  const [nearest] = chosen(experiment, 'random', test, 'KNN');
  const baselineRows = ['COLOUR_STATISTICS', 'MAJORITY_CLASS'].map((kind) => {
    const cell = (measured: Measured | undefined): string => {
      const metric = measured?.evaluation.baselines
        .find((baseline) => baseline.kind === kind)
        ?.metrics.find(({ name }) => name === 'macroF1');
      return metric === undefined
        ? ''
        : written({ value: metric.value, low: metric.ci95Low, high: metric.ci95High }, '');
    };
    return [kind, cell(first), '', cell(nearest), '', '', ''];
  });
  return [
    `### ${test}`,
    '',
    `| ${experiment.question === 'data' ? 'pretrained on' : 'pretrained by'} | linear probe | against random | kNN | against random | seeds, linear probe | its images seen in pretraining |`,
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...[...rows, ...baselineRows].map((cells) => `| ${cells.join(' | ')} |`),
  ];
}

function written(point: ChartPoint | null, sign: '' | '+'): string {
  if (point === null) return '';
  const text = (value: number): string => `${sign === '+' && value >= 0 ? '+' : ''}${value.toFixed(3)}`;
  return `${text(point.value)} (${text(point.low)} .. ${text(point.high)})`;
}

/** Every sentence is derived from the numbers, for a positive as well as a negative result. */
function conclusionOf(experiment: Experiment): string {
  const { tests, plan } = experiment;
  const cases = tests.flatMap((test) => PROTOCOLS.map((protocol) => ({ test, protocol })));
  const trained = experiment.arms.filter(({ isTrained }) => isTrained).map(({ name }) => name);
  const verdicts = trained.flatMap((arm) =>
    cases.flatMap(({ test, protocol }) => differenceOf(experiment, arm, test, protocol) ?? []),
  );
  const better = verdicts.filter(({ low }) => low > 0).length;
  const worse = verdicts.filter(({ high }) => high < 0).length;
  const value = (arm: string, { test, protocol }: (typeof cases)[number]): number =>
    pointOf(experiment, arm, test, protocol)?.value ?? Number.NaN;
  const higher = (left: string, right: string): number =>
    cases.filter((each) => value(left, each) > value(right, each)).length;
  const rising = cases.filter((each) =>
    SHARE_ARMS.every((arm, index) => index === 0 || value(arm, each) >= value(SHARE_ARMS[index - 1] ?? arm, each)),
  ).length;
  const colourValue = ({ test, protocol }: (typeof cases)[number]): number =>
    chosen(experiment, 'random', test, protocol)[0]
      ?.evaluation.baselines.find(({ kind }) => kind === 'COLOUR_STATISTICS')
      ?.metrics.find(({ name }) => name === 'macroF1')?.value ?? Number.NaN;
  const aboveColour = cases.map(
    (each) =>
      `${trained.filter((arm) => value(arm, each) > colourValue(each)).length} on ${each.test} by ${each.protocol}`,
  );
  return [
    `With ${plan.steps} steps and ${plan.seedCount} ${plan.seedCount === 1 ? 'seed' : 'seeds'} for each arm, ${better} of ${verdicts.length} comparisons of a pretrained encoder with the random one have an interval above 0, ${worse} have one below 0;`,
    `the other ${verdicts.length - better - worse} intervals contain 0.`,
    ...(experiment.question === 'methods'
      ? []
      : [
          `By the means alone, pretraining on all datasets scores above pretraining on one in ${higher('all', 'one')} of ${cases.length} cases and above several in ${higher('all', 'several')};`,
          `macro F1 never falls from one share of the images to the next, from 5 to 100 %, in ${rising} of ${cases.length}; pretraining on all stains scores above pretraining on H&E alone in ${higher('all', 'H&E only')} of ${cases.length}.`,
        ]),
    `Of the ${trained.length} pretrained encoders, the number that scores above plain colour statistics of the same images is: ${aboveColour.join(', ')}.`,
    'The paper trained for 1,000 epochs on hundreds of thousands of images; this experiment has about two thousand patches and trains for minutes. It shows that the whole process works, and the direction of an effect where an interval excludes 0,',
    'but never that a model is good. Where tested images were part of the pretraining (last column), they were seen without their labels; this still helps the pretrained encoders.',
  ].join('\n');
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
