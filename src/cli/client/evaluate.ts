/**
 * `paraffin evaluate`, `compare`, `leaderboard`: the performance of encoders, with intervals and baselines beside every
 * number.
 */
import { z } from 'zod';
import { namesOf, numberFrom, oneOf, wholeNumberFrom } from '../command.ts';
import { CommandFailure, EXIT } from '../exit-codes.ts';
import { table } from '../terminal.ts';
import { clientCommand, connect, granted, type ClientOptions, type Registry } from './connection.ts';
import { awaitRun, waitingNote, type RunOutcome } from './follow.ts';
import { METRIC_FIELDS, USER_ERROR_FIELDS } from './fragments.ts';
import { graphql, type VariablesOf } from './graphql.ts';
import { interval, intervalNotes, paint, printNote, show, signedInterval, type GroupKnowledge } from './output.ts';
import { findCheckpoint, findVersion } from './references.ts';
import { NEEDS_HELP, needsFrom } from './requirements.ts';

const LAUNCH = graphql(
  `
    mutation Evaluate($input: LaunchEvaluationInput!) {
      launchEvaluation(input: $input) {
        run {
          id
          config
          queuePosition
          obstacle
        }
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);
type Protocol = NonNullable<VariablesOf<typeof LAUNCH>['input']['protocol']>;

const COMPARE = graphql(`
  query Compare($a: ID!, $b: ID!) {
    compareEvaluations(a: $a, b: $b) {
      imageCount
      groupCount
      groupsKnown
      intervalCaveat
      resampleCount
      first {
        id
        checkpoint {
          version
          model {
            slug
          }
        }
        datasetVersion {
          version
          dataset {
            slug
          }
        }
      }
      second {
        id
        checkpoint {
          version
          model {
            slug
          }
        }
      }
      metrics {
        name
        first
        second
        difference
        ci95Low
        ci95High
      }
    }
  }
`);

const LEADERBOARD = graphql(
  `
    query Leaderboard($datasetVersionId: ID!, $protocol: EvaluationProtocol!) {
      leaderboard(datasetVersionId: $datasetVersionId, protocol: $protocol) {
        rank
        overlapsPretraining
        metric {
          ...MetricFields
        }
        checkpoint {
          id
          version
          encoder
          architecture {
            name
          }
          model {
            slug
          }
        }
        evaluation {
          id
          groupsKnown
          intervalCaveat
          caveats {
            kind
            count
            meaning
          }
          unbeatenBaselines
          baselines {
            kind
            metrics {
              ...MetricFields
            }
          }
        }
      }
    }
  `,
  [METRIC_FIELDS],
);

const GOLDEN = graphql(`
  query GoldenImage($id: ID!) {
    checkpoint(id: $id) {
      golden
      inputContract {
        imageSizePx
      }
    }
  }
`);

const PROTOCOLS: Readonly<Record<Protocol, true>> = {
  LINEAR_PROBE: true,
  KNN: true,
  FINE_TUNE: true,
  REGRESSION: true,
};

export const evaluateCommand = clientCommand('evaluate', {
  summary: 'evaluate a checkpoint on labelled images',
  details:
    'Evaluates a checkpoint on labelled images, with folds that never split a group, and compares it with baselines. The run continues after Ctrl-C. Exit code 4 if the run fails.',
  examples: [
    'evaluate colon --data bach',
    'evaluate colon@champion --data bach@1 --protocol knn',
    'evaluate colon --data bach --needs memory=16G,label=basel',
    'evaluate 0198a7c2-… --data bach --json > evaluation.json',
  ],
})
  .argument('<checkpoint>', 'id, model@alias, model@version, or model for its latest version')
  .requiredOption('-d, --data <dataset>', 'dataset or dataset@version')
  .option('--protocol <name>', namesOf(PROTOCOLS).join(', '), oneOf(PROTOCOLS), 'LINEAR_PROBE' as const)
  .option('--folds <count>', 'number of folds, if the version has no split (default: 5)', wholeNumberFrom(2))
  .option('--seed <number>', 'random seed; the same seed draws the same folds', wholeNumberFrom(0))
  .option('--resamples <count>', 'bootstrap resamples, 100 to 10000 (default: 1000)', wholeNumberFrom(100))
  .option('--max-minutes <count>', 'longest running time, after which the run fails', numberFrom(0))
  .option('--needs <requirements>', NEEDS_HELP, needsFrom)
  .option('--detach', 'print the run and do not wait for it')
  .action(async (reference, { data, protocol, folds, seed, resamples, maxMinutes, needs, detach, ...options }) => {
    const registry = await connect(options);
    const checkpoint = await findCheckpoint(registry, reference);
    const version = await findVersion(registry, data);
    const { launchEvaluation } = await registry.ask(LAUNCH, {
      input: {
        checkpointId: checkpoint.id,
        datasetVersionId: version.id,
        protocol,
        ...(folds === undefined ? {} : { folds }),
        ...(seed === undefined ? {} : { seed }),
        ...(resamples === undefined ? {} : { options: { bootstrapResamples: resamples } }),
        ...(maxMinutes === undefined ? {} : { maxDurationSeconds: Math.round(maxMinutes * 60) }),
        ...(needs === undefined ? {} : { requirements: needs }),
      },
    });
    const run = granted(launchEvaluation.run, launchEvaluation);
    if (detach === true) {
      show(options, {
        data: run,
        names: [run.id],
        text: `Launched run ${run.id}. Follow it with: paraffin runs logs -f ${run.id}`,
      });
      return;
    }
    printNote(
      options,
      [
        `run ${run.id}: ${checkpoint.model.slug}@${checkpoint.version} on ${version.datasetSlug}@${version.version}`,
        ...waitingNote(run),
      ].join('\n'),
    );
    const { evaluation } = await awaitRun(registry, options, run.id);
    if (evaluation === null) throw new CommandFailure({ message: 'The run succeeded without an evaluation.' });
    const golden = await goldenImageOf(registry, checkpoint.id, evaluation.id);
    show(options, {
      data: { ...evaluation, goldenImage: golden },
      names: [evaluation.id],
      text: [
        evaluationTable(evaluation),
        ...intervalNotes([evaluation]),
        ...verdict(evaluation.unbeatenBaselines),
        leakageInWords(evaluation.leakage),
        ...evaluation.learningCurve.map((point) => pointInWords(point, evaluation)),
        ...goldenInWords(golden),
        `evaluation ${evaluation.id}`,
      ].join('\n'),
    });
    printCaveats(options, evaluation);
  });

type Evaluation = NonNullable<RunOutcome['evaluation']>;

/**
 * Each baseline with the difference to it; the interval of the difference is more informative than the two separate
 * intervals.
 */
function evaluationTable(evaluation: Evaluation): string {
  const { metrics, baselines } = evaluation;
  const rows = metrics.map((metric) => [
    metric.name,
    paint('bold', interval(metric, evaluation)),
    ...baselines.flatMap((baseline) => {
      const [same, difference] = [baseline.metrics, baseline.differences].map((each) =>
        each.find(({ name }) => name === metric.name),
      );
      return [same?.value.toFixed(3) ?? '', difference === undefined ? '' : signedInterval(difference, evaluation)];
    }),
  ]);
  return table(['metric', 'encoder', ...baselines.flatMap(({ kind }) => [kindInWords(kind), 'difference'])], rows);
}

function verdict(unbeaten: readonly string[]): string[] {
  return unbeaten.length === 0
    ? []
    : [
        paint(
          'yellow',
          `It does not beat ${unbeaten.map(kindInWords).join(', ')}: the interval of the difference contains 0 or is on the wrong side of it.`,
        ),
      ];
}

function leakageInWords(leakage: Evaluation['leakage']): string {
  if (leakage === null)
    return 'Whether the encoder had seen these images is not known, because its weights were imported.';
  const { exactImageCount: exact, nearDuplicateImageCount: near, sharedDatasets, sharedCollections } = leakage;
  const images =
    exact === null || near === null
      ? 'images not compared (a version was sealed before images were hashed)'
      : `${exact} of ${leakage.testImageCount} tested images, and ${near} more near-duplicates`;
  const shared = [...sharedDatasets, ...sharedCollections];
  const found = [
    `Seen in pretraining${leakage.isUpperBound ? ', at most' : ''}: ${images}; ${leakage.testGroupCount === 0 ? 'groups not compared, because none is known' : `${leakage.sharedGroupCount} of ${leakage.testGroupCount} groups`}`,
    ...(shared.length === 0 ? [] : [`from the same ${shared.join(', ')}`]),
    ...(leakage.isComplete ? [] : ['there may be more, because a part of its training is not known']),
  ].join('; ');
  const isClean = exact === 0 && near === 0 && leakage.sharedGroupCount === 0 && shared.length === 0;
  return `${isClean ? found : paint('yellow', found)}.`;
}

function pointInWords(
  { labelFraction, shotsPerClass, metrics }: Evaluation['learningCurve'][number],
  groups: GroupKnowledge,
): string {
  const amount =
    labelFraction === null ? `${shotsPerClass ?? 0} images per class` : `${100 * labelFraction} % of the labels`;
  return `  with ${amount}: ${metrics.map((metric) => `${metric.name} ${interval(metric, groups)}`).join(', ')}`;
}

const goldenSchema = z.object({ embeddings: z.tuple([z.array(z.number())]).rest(z.array(z.number())) });
/** Number of printed components of the golden embedding: enough to detect a wrong preparation. */
const COMPONENTS_SHOWN = 8;

interface GoldenImage {
  readonly imageSizePx: number;
  readonly embedding: readonly number[];
  /** URL of the page that shows it. */
  readonly url: string;
}

/** Null while it has not been measured. */
async function goldenImageOf(
  registry: Registry,
  checkpointId: string,
  evaluationId: string,
): Promise<GoldenImage | null> {
  const { checkpoint } = await registry.ask(GOLDEN, { id: checkpointId });
  const parsed = goldenSchema.safeParse(checkpoint?.golden);
  if (checkpoint === null || !parsed.success) return null;
  const [embedding] = parsed.data.embeddings;
  const url = `${registry.url}/evaluations/${evaluationId}`;
  return { imageSizePx: checkpoint.inputContract.imageSizePx, embedding, url };
}

function goldenInWords(golden: GoldenImage | null): string[] {
  if (golden === null) return [];
  const beginning = golden.embedding.slice(0, COMPONENTS_SHOWN).map((value) => Number(value.toPrecision(4)));
  return [
    `The golden image, ${golden.imageSizePx} x ${golden.imageSizePx} px, has an embedding that begins with ${beginning.join(', ')}; if you get other numbers, you prepare images differently. It is shown at ${golden.url}`,
  ];
}

function kindInWords(kind: string): string {
  return kind.toLowerCase().replaceAll('_', ' ');
}

export const compareCommand = clientCommand('compare', {
  summary: 'compare two evaluations over the same folds, paired by group',
  examples: ['compare 0198a7c2-… 0198b001-…', 'compare 0198a7c2-… 0198b001-… --json'],
})
  .argument('<first>', 'id of an evaluation')
  .argument('<second>', 'id of another evaluation on the same dataset version')
  .action(async (a, b, options) => {
    const { compareEvaluations: comparison } = await (await connect(options)).ask(COMPARE, { a, b });
    const { first, second, metrics, imageCount, groupCount, resampleCount } = comparison;
    const rows = metrics.map((metric) => [
      metric.name,
      metric.first.toFixed(3),
      metric.second.toFixed(3),
      signedInterval({ ...metric, value: metric.difference }, comparison),
    ]);
    show(options, {
      data: comparison,
      names: [first.id, second.id],
      text: [
        table(
          [
            'metric',
            `${first.checkpoint.model.slug}@${first.checkpoint.version}`,
            `${second.checkpoint.model.slug}@${second.checkpoint.version}`,
            'difference',
          ],
          rows,
        ),
        `${imageCount} images${groupCount === 0 ? ' without known groups' : ` of ${groupCount} groups`} of ${first.datasetVersion.dataset.slug}@${first.datasetVersion.version}; intervals of ${resampleCount} resamples that draw the same groups for both.`,
        ...intervalNotes([comparison]),
      ].join('\n'),
    });
  });

export const leaderboardCommand = clientCommand('leaderboard', {
  summary: 'show the best encoders for a dataset',
  examples: ['leaderboard bach', 'leaderboard --data bach@1 --protocol knn --json'],
})
  .argument('[dataset]', 'dataset or dataset@version')
  .option('-d, --data <dataset>', 'the dataset; same as the argument')
  .option('--protocol <name>', namesOf(PROTOCOLS).join(', '), oneOf(PROTOCOLS), 'LINEAR_PROBE' as const)
  .action(async (named, { data, protocol, ...options }) => {
    const reference = named ?? data;
    if (reference === undefined || (named !== undefined && data !== undefined))
      throw new CommandFailure({
        exitCode: EXIT.INVALID_ARGUMENTS,
        message: 'Give one dataset.',
        hint: 'For example: paraffin leaderboard bach',
      });
    const registry = await connect(options);
    const version = await findVersion(registry, reference);
    const { leaderboard } = await registry.ask(LEADERBOARD, { datasetVersionId: version.id, protocol });
    const [best] = leaderboard;
    const rows = leaderboard.map(({ rank, checkpoint, metric, evaluation, overlapsPretraining }) => [
      String(rank),
      `${checkpoint.model.slug}@${checkpoint.version}`,
      checkpoint.architecture.name.toLowerCase(),
      interval(metric, evaluation),
      overlapsPretraining === null ? 'not known' : overlapsPretraining ? paint('yellow', 'yes') : 'no',
      evaluation.id,
    ]);
    const baselines =
      best?.evaluation.baselines.flatMap(({ kind, metrics }) =>
        metrics.flatMap((metric) =>
          metric.name === best.metric.name ? [`${kindInWords(kind)} ${interval(metric, best.evaluation)}`] : [],
        ),
      ) ?? [];
    show(options, {
      data: leaderboard,
      names: leaderboard.map((row) => row.checkpoint.id),
      text:
        best === undefined
          ? `No encoder was evaluated on ${version.datasetSlug}@${version.version} by ${protocol}.`
          : [
              paint('bold', `${version.datasetSlug}@${version.version}, ${protocol}`),
              table(['rank', 'checkpoint', 'encoder', best.metric.name, 'seen in training', 'evaluation'], rows),
              ...intervalNotes(leaderboard.map(({ evaluation }) => evaluation)),
              ...(baselines.length === 0 ? [] : [`baselines of the first: ${baselines.join(', ')}`]),
              ...leaderboard.flatMap(({ checkpoint, evaluation }) =>
                evaluation.unbeatenBaselines.length === 0
                  ? []
                  : [
                      paint(
                        'yellow',
                        `${checkpoint.model.slug}@${checkpoint.version} does not beat ${evaluation.unbeatenBaselines.map(kindInWords).join(', ')}.`,
                      ),
                    ],
              ),
            ].join('\n'),
    });
    if (best !== undefined) printCaveats(options, best.evaluation);
  });

/** Warnings about images that make every score on them too high or less certain. */
function printCaveats(
  options: ClientOptions,
  { caveats }: { readonly caveats: NonNullable<RunOutcome['evaluation']>['caveats'] },
): void {
  for (const { kind, count, meaning } of caveats) printNote(options, `${kind}, ${count} images: ${meaning ?? ''}`);
}
