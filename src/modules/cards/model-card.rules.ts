/** Model cards: Markdown with YAML front matter, as on Hugging Face. Pure; unknown facts are left out. */
import { describeEncoder } from '../../formats/encoders/index.ts';
import type { DatasetRecord, DatasetVersionRecord } from '../datasets/index.ts';
import { areGroupsKnown, intervalCaveat } from '../../statistics/interval-caveat.rules.ts';
import { unbeatenBaselines, ungroupedImageCountOf, type ReportedEvaluationRecord } from '../evaluations/index.ts';
import { precisionSentence, type CheckpointRecord, type ModelRecord } from '../models/index.ts';
import type { RunRecord } from '../runs/index.ts';
import type { EvaluationMetricRecord, LeakageRecord, LearningCurvePointRecord } from '../../protocol/evaluation.ts';
import { probeAdvice, probeOverlapSentence, probeSentence } from '../../protocol/checkpoint-probe.ts';
import { describeMethod, methodNameIn } from '../../protocol/pretraining/methods/index.ts';
import type { GoldenRecord } from '../../protocol/checkpoint.ts';

export const MODEL_CARD_MEDIA_TYPE = 'text/markdown; charset=utf-8';

/** A version of a dataset with the dataset's own facts. */
export interface SeenVersion {
  readonly dataset: DatasetRecord;
  readonly version: DatasetVersionRecord;
}

export interface ModelCardFacts {
  readonly model: ModelRecord;
  readonly checkpoint: CheckpointRecord;
  /** `isPart`: every training on the version used only a part of its images. */
  readonly trainedOn: readonly (SeenVersion & { readonly isPart: boolean })[];
  /** False if the checkpoint, or one that its training started from, was imported. */
  readonly isTrainingComplete: boolean;
  /** Golden embedding, with which readers verify their own preprocessing. */
  readonly golden: GoldenRecord | undefined;
  /** The pretraining run that produced the checkpoint; absent for imported ones. */
  readonly run: RunRecord | undefined;
  readonly evaluations: readonly (SeenVersion & { readonly evaluation: ReportedEvaluationRecord })[];
  /** The base URL of this registry, without a trailing slash. */
  readonly serverUrl: string;
}

/** Hugging Face's names of licences are SPDX's in lower case. */
const HUGGING_FACE_LICENCES = new Set([
  'apache-2.0',
  'mit',
  'cc0-1.0',
  'cc-by-3.0',
  'cc-by-4.0',
  'cc-by-sa-4.0',
  'cc-by-nc-4.0',
  'cc-by-nc-nd-4.0',
  'cc-by-nc-sa-4.0',
  'bsd-2-clause',
  'bsd-3-clause',
  'gpl-3.0',
]);

export function modelCardOf(facts: ModelCardFacts): string {
  const { model, checkpoint } = facts;
  const isSynthetic = facts.trainedOn.some(({ dataset }) => dataset.synthetic);
  return [
    '---',
    ...frontMatterOf(facts).map(([name, value]) => `${name}: ${yaml(value)}`),
    '---',
    '',
    `# ${plain(model.name)}, version ${checkpoint.version}`,
    '',
    ...(isSynthetic
      ? [
          '**SYNTHETIC: trained on images that a program drew. It demonstrates the software and is useless on tissue.**',
          '',
        ]
      : []),
    ...(model.description === null ? [] : [plain(model.description), '']),
    `A ${describeEncoder(checkpoint.architecture).name} that turns one image into an embedding of ${checkpoint.embeddingDim} numbers. Checkpoint \`${checkpoint.id}\`${checkpoint.sha256 === null ? '; its weights are not in this registry.' : `, sha256 \`${checkpoint.sha256}\`.`}`,
    '',
    'For research only. It is not a medical device.',
    '',
    ...section('How to prepare an image', contractLines(checkpoint)),
    ...section('Golden image', goldenLines(facts)),
    ...section('Precision', precisionLines(facts)),
    ...section('Training data', trainingDataLines(facts)),
    ...section('Training procedure', procedureLines(facts)),
    ...section("The training's own probe", probeLines(facts)),
    ...section('Evaluation', evaluationLines(facts)),
    ...(checkpoint.sha256 === null
      ? []
      : section('Download', [
          `\`${facts.serverUrl}/checkpoints/${checkpoint.id}/download?format=safetensors\` (or pytorch, onnx, tfjs). The ETag is the file's sha256. Tensors have the names and layouts of torchvision (ResNets) or timm (vision transformers), without a head.`,
        ])),
  ].join('\n');
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [`## ${title}`, '', ...lines, ''];
}

function frontMatterOf({
  model,
  checkpoint,
  trainedOn,
  run,
  evaluations,
}: ModelCardFacts): (readonly [string, unknown])[] {
  const licence = model.licence ?? checkpoint.importedFrom?.licence ?? null;
  const isHuggingFaceLicence = licence !== null && HUGGING_FACE_LICENCES.has(licence.toLowerCase());
  const datasets = [...new Set(trainedOn.map(({ dataset }) => dataset.slug))];
  return [
    ...(licence === null
      ? []
      : isHuggingFaceLicence
        ? [['license', licence.toLowerCase()] as const]
        : [['license', 'other'] as const, ['license_name', licence] as const]),
    ['pipeline_tag', 'image-feature-extraction'],
    [
      'tags',
      [
        'histopathology',
        describeEncoder(checkpoint.architecture).name.toLowerCase(),
        ...(run === undefined ? [] : ['self-supervised', methodNameIn(run.config).toLowerCase().replaceAll('_', '-')]),
      ],
    ],
    ...(datasets.length === 0 ? [] : [['datasets', datasets] as const]),
    ...(evaluations.length === 0
      ? []
      : [['model-index', [{ name: model.slug, results: evaluations.map(resultOf) }]] as const]),
  ];
}

function resultOf({ evaluation, dataset, version }: ModelCardFacts['evaluations'][number]): unknown {
  return {
    task: {
      type: evaluation.protocol === 'REGRESSION' ? 'tabular-regression' : 'image-classification',
      name: words(evaluation.protocol),
    },
    dataset: {
      type: dataset.slug,
      name: `${dataset.name}, version ${version.version}`,
      ...(version.digest === null ? {} : { revision: version.digest }),
    },
    metrics: evaluation.metrics.map(({ name, value }) => ({ type: name, value })),
  };
}

const POOLINGS_IN_WORDS = {
  CLS: 'the class token',
  MEAN: 'the mean of the patch tokens',
  CLS_AND_MEAN: 'the class token, then the mean of the patch tokens',
} as const;

function contractLines({ inputContract: contract }: CheckpointRecord): string[] {
  const resolution = [contract.micronsPerPixelMin, contract.micronsPerPixelMax].filter((um) => um != null);
  return [
    `- Resize to ${contract.imageSizePx} x ${contract.imageSizePx} px: ${words(contract.resizeRule)}, ${words(contract.interpolation)}, antialiased.`,
    `- Channels in the order ${contract.channelOrder}, values to [${contract.valueRange.join(', ')}].`,
    `- Subtract the mean [${contract.channelMean.join(', ')}], divide by the standard deviation [${contract.channelStd.join(', ')}].`,
    contract.pooling === 'AVGPOOL'
      ? `- The embedding is the output of \`${contract.embeddingLayer}\`.`
      : `- The embedding is pooled from the output of \`${contract.embeddingLayer}\`: ${POOLINGS_IN_WORDS[contract.pooling]}.`,
    ...(resolution.length === 0 ? [] : [`- Trained at ${[...new Set(resolution)].join(' to ')} um/px.`]),
  ];
}

function goldenLines({ checkpoint, golden, serverUrl }: ModelCardFacts): string[] {
  const [embedding] = golden?.embeddings ?? [];
  if (embedding === undefined) return [];
  const { imageSizePx } = checkpoint.inputContract;
  const beginning = embedding.slice(0, 8).map((value) => Number(value.toPrecision(5)));
  return [
    `An image of ${imageSizePx} x ${imageSizePx} px (\`Checkpoint.golden\` of ${serverUrl}/graphql has its pixels) gives an embedding that begins with ${beginning.join(', ')}. If you get other numbers, you prepare images differently.`,
  ];
}

function precisionLines({ checkpoint: { sha256, inputContract }, golden }: ModelCardFacts): string[] {
  return sha256 === null ? [] : [precisionSentence(inputContract.weightsDtype, golden?.rounding)];
}

function trainingDataLines({ trainedOn, isTrainingComplete }: ModelCardFacts): string[] {
  const rows = trainedOn.map(
    ({ dataset, version, isPart }) =>
      `| ${plain(dataset.name)}${dataset.synthetic ? ' (SYNTHETIC)' : ''} | ${version.version} | ${version.imageCount}${isPart ? ', a part of them' : ''} | ${plain(dataset.licence ?? '')} | \`${version.digest ?? ''}\` |`,
  );
  return [
    ...(rows.length === 0
      ? []
      : ['| dataset | version | images | licence | digest |', '| --- | --- | --- | --- | --- |', ...rows]),
    ...(isTrainingComplete
      ? rows.length === 0
        ? ['None: the weights are randomly initialised.']
        : []
      : [
          ...(rows.length === 0 ? [] : ['']),
          'The training started from imported weights, which may have seen other images that are not known here.',
        ]),
  ];
}

function procedureLines({ run, checkpoint, serverUrl }: ModelCardFacts): string[] {
  if (run !== undefined) {
    const { title, paper, exported } = describeMethod(methodNameIn(run.config));
    return [
      `Self-supervised by ${title} (${paper}), run \`${run.id}\`${checkpoint.epoch === null ? '' : `, ${Number(checkpoint.epoch.toFixed(2))} epochs`}${checkpoint.step === null ? '' : `, ${checkpoint.step} steps`}.${exported === undefined ? '' : ` These are the weights of ${exported}.`} Its frozen configuration, seed included:`,
      '',
      '```json',
      JSON.stringify(run.config, null, 2),
      '```',
      ...(run.environment === null
        ? []
        : ['', 'Environment:', '', '```json', JSON.stringify(run.environment, null, 2), '```']),
      '',
      `The metric series are at ${serverUrl}/runs/${run.id}`,
    ];
  }
  const known = checkpoint.trainingFacts.flatMap(({ name, value, sources }) =>
    value === null
      ? []
      : [`- ${plain(name)}: ${plain(value)}${sources.length === 0 ? '' : ` (${plain(sources.join(', '))})`}`],
  );
  const from = checkpoint.importedFrom?.url ?? checkpoint.importedFrom?.fileName ?? null;
  return [...(from === null ? [] : [`Imported from ${plain(from)}.`, '']), ...known];
}

function probeLines({ checkpoint: { probe } }: ModelCardFacts): string[] {
  if (probe === null) return [];
  const { imageCount, groupCount, ridgeMacroF1, knnMacroF1, randomEncoder, colourStatistics } = probe;
  return [
    `Result: **${plain(probeSentence(probe))}**. Differences are of the macro F1 of a ridge regression on ${imageCount} labelled images${groupCount === 0 ? ' whose patients or slides are not known' : ` of ${groupCount} groups`}.`,
    ...[probeAdvice(probe), probeOverlapSentence(probe)].flatMap((text) => (text === null ? [] : ['', plain(text)])),
    '',
    '| probe | this encoder | random encoder | colour statistics |',
    '| --- | --- | --- | --- |',
    `| ridge, macroF1 | ${ridgeMacroF1.toFixed(3)} | ${randomEncoder.ridgeMacroF1.toFixed(3)} | ${colourStatistics.ridgeMacroF1.toFixed(3)} |`,
    `| kNN, macroF1 | ${knnMacroF1.toFixed(3)} | ${randomEncoder.knnMacroF1.toFixed(3)} | ${colourStatistics.knnMacroF1.toFixed(3)} |`,
  ];
}

function evaluationLines({ evaluations }: ModelCardFacts): string[] {
  if (evaluations.length === 0) return [];
  const rows = evaluations.flatMap(({ evaluation, dataset, version }) => {
    const isTooNarrow = areGroupsKnown(ungroupedImageCountOf(evaluation, version)) === false;
    return evaluation.metrics.map((metric) => {
      const beside = evaluation.baselines.flatMap(({ kind, metrics, differences }) =>
        metrics.flatMap((same) => {
          if (same.name !== metric.name) return [];
          const difference = differences.find(({ name }) => name === metric.name);
          return [
            `${words(kind)} ${same.value.toFixed(3)}${difference === undefined ? '' : ` (difference ${interval(difference)})`}`,
          ];
        }),
      );
      return `| ${plain(dataset.name)}, version ${version.version} | ${words(evaluation.protocol)} | ${metric.name} | ${interval(metric)}${isTooNarrow ? ', interval too narrow' : ''} | ${beside.join(', ')} |`;
    });
  });
  return [
    'Intervals are 95 %, by a bootstrap over groups (patients or slides). The baselines went through the same protocol.',
    '',
    '| dataset | protocol | metric | value | baselines |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
    '',
    ...evaluations.flatMap(({ evaluation, dataset, version }) => {
      const { protocol, metrics, baselines, leakage, learningCurve } = evaluation;
      const unbeaten = unbeatenBaselines(protocol, metrics, baselines);
      const caveat = intervalCaveat(ungroupedImageCountOf(evaluation, version));
      return [
        `- ${plain(dataset.name)}, version ${version.version}, ${words(protocol)}: ${leakageInWords(leakage)}`,
        ...(caveat === null ? [] : [`  **${caveat}**`]),
        ...(unbeaten.length === 0 ? [] : [`  **It does not beat ${unbeaten.map(words).join(', ')}.**`]),
        ...(learningCurve.length === 0 ? [] : [`  With fewer labels: ${learningCurve.map(pointInWords).join('; ')}.`]),
      ];
    }),
  ];
}

/** The overlap of the tested images with the pretraining data, in numbers. */
function leakageInWords(leakage: LeakageRecord | null): string {
  if (leakage === null) return 'whether the encoder had seen these images is not known.';
  const { exactImageCount: exact, nearDuplicateImageCount: near, testImageCount, sharedGroupCount } = leakage;
  const images =
    exact === null || near === null
      ? 'images were not compared, because a version was sealed before images were hashed'
      : `${exact} of ${testImageCount} tested images were in its pretraining, and ${near} more are near-duplicates`;
  const shared = [...leakage.sharedDatasets, ...leakage.sharedCollections].map(plain);
  return [
    `${images}; ${leakage.testGroupCount === 0 ? 'groups were not compared, because none is known' : `${sharedGroupCount} of ${leakage.testGroupCount} groups`}`,
    ...(shared.length === 0 ? [] : [`; from the same ${shared.join(', ')}`]),
    ...(leakage.isComplete ? [] : ['; there may be more, because a part of its training is not known']),
    '.',
  ].join('');
}

function pointInWords({ labelFraction, shotsPerClass, metrics }: LearningCurvePointRecord): string {
  const [first] = metrics;
  const amount =
    labelFraction === null ? `${shotsPerClass ?? 0} per class` : `${Number((100 * labelFraction).toFixed(2))} %`;
  return `${amount} ${first === undefined ? '' : `${first.name} ${interval(first)}`}`;
}

function interval({ value, ci95Low, ci95High }: EvaluationMetricRecord): string {
  return `${value.toFixed(3)}${ci95Low === null || ci95High === null ? '' : ` [${ci95Low.toFixed(3)}, ${ci95High.toFixed(3)}]`}`;
}

/** e.g. `LINEAR_PROBE` as "linear probe". */
function words(name: string): string {
  return name.toLowerCase().replaceAll('_', ' ');
}

/** JSON is valid YAML except for a few line separators that only YAML treats as line breaks. */
function yaml(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /[\u0085\u2028\u2029]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** User text on one line, with its markup escaped. */
function plain(text: string): string {
  return text.replaceAll(/\s+/g, ' ').replaceAll(/[\\`*_[\]<>|#]/g, (letter) => `\\${letter}`);
}
