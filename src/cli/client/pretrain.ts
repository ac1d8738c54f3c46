/** `paraffin pretrain`: pretrains an encoder by self-supervision and shows its progress. */
import { z } from 'zod';
import { PRETRAINING_METHODS } from '../../generated/pretraining-methods.ts';
import { listOf, namesOf, numberFrom, oneOf, wholeNumberFrom } from '../command.ts';
import { CommandFailure, EXIT } from '../exit-codes.ts';
import { formatByteSize } from '../terminal.ts';
import { clientCommand, connect, granted, type Registry } from './connection.ts';
import { awaitRun, waitingNote } from './follow.ts';
import { USER_ERROR_FIELDS } from './fragments.ts';
import { graphql, type VariablesOf } from './graphql.ts';
import { paint, printNote, show } from './output.ts';
import { findCheckpoint, findVersion } from './references.ts';
import { NEEDS_HELP, needsFrom } from './requirements.ts';

const LAUNCH = graphql(
  `
    mutation Pretrain($input: LaunchPretrainingInput!) {
      launchPretraining(input: $input) {
        run {
          id
          config
          explanation
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
type Input = VariablesOf<typeof LAUNCH>['input'];

const ENCODERS: Readonly<Record<Exclude<Input['encoder'] & string, 'OTHER'>, true>> = {
  RESNET18: true,
  RESNET34: true,
  RESNET50: true,
  RESNET101: true,
  VIT_TI16: true,
  VIT_S16: true,
  VIT_B16: true,
};
const METHODS: Readonly<Record<Input['method'] & string, true>> = PRETRAINING_METHODS;
const SAMPLINGS: Readonly<Record<Input['sampling'] & string, true>> = { EVEN: true, PROPORTIONAL: true };
const PRECISIONS: Readonly<Record<Input['precision'] & string, true>> = { FLOAT32: true, BFLOAT16: true };
const RECIPES: Readonly<Record<Input['recipe'] & string, true>> = { DEFAULT: true, PAPER: true };
type OptimizerInput = NonNullable<Input['optimizer']>;
const OPTIMIZERS: Readonly<Record<OptimizerInput['name'], true>> = { LARS: true, SGD: true, ADAM: true, ADAMW: true };

/** `bach@2:5000` is at most 5,000 images of version 2. */
interface DatasetChoice {
  readonly reference: string;
  readonly maxImages: number | undefined;
}

const parseDatasets = listOf((text): DatasetChoice => {
  const [reference = '', count] = text.split(':');
  return { reference, maxImages: count === undefined ? undefined : wholeNumberFrom(1)(count) };
});

export const pretrainCommand = clientCommand('pretrain', {
  summary: 'pretrain an encoder by self-supervision',
  details:
    'Pretrains an encoder by self-supervision and shows loss, images/s and the time left. With --budget the worker measures its device and chooses precision, size and steps, and explains its choices. The run continues after Ctrl-C. Exit code 4 if the run fails.',
  examples: [
    'pretrain --model colon --data colon-biopsies --budget 1h',
    'pretrain --model colon --data colon-biopsies --epochs 100 --optimizer sgd --momentum 0.95 --learning-rate 0.05',
    'pretrain --model colon --data colon-biopsies --budget 1h --method vicreg',
    `pretrain --model colon --data colon-biopsies --budget 1h --batch-size 32 --method-options '{"decoupled": true}'`,
    'pretrain --model paper --data colon-biopsies --epochs 100 --recipe paper',
    'pretrain --model mixed --data bach:5000,kather-texture-2016@1 --encoder resnet50 --batch-size 512 --precision bfloat16 --steps 20000',
    'pretrain --model colon-vit --data colon-biopsies --encoder vit_s16 --image-size 224 --epochs 300 --drop-path 0.1',
    'pretrain --model colon --data colon-biopsies --steps 200 --detach --quiet',
    'pretrain --model colon --data colon-biopsies --budget 8h --needs gpu-memory=40G,label=basel',
    'pretrain --model colon --data colon-biopsies --epochs 50 --probe kather-texture-2016 --probe-every 500 --register best,2000',
  ],
})
  .requiredOption('-m, --model <slug>', 'the model that gets a new version; created if it does not exist')
  .requiredOption(
    '-d, --data <datasets>',
    'dataset, dataset@version, or either with :N for at most N images',
    parseDatasets,
  )
  .option('--encoder <name>', namesOf(ENCODERS).join(', '), oneOf(ENCODERS))
  .option('--method <name>', `${namesOf(METHODS).join(', ')} (default: simclr)`, oneOf(METHODS))
  .option('--method-options <json>', "the method's own settings, such as '{\"decoupled\": true}'", parseOptions)
  .option('--budget <duration>', 'time for the training: 45m, 1h, 1h30m, 2d; or give --epochs or --steps')
  .option('--epochs <count>', 'number of passes over the images; or give --budget or --steps', numberFrom(0))
  .option('--steps <count>', 'number of batches; or give --budget or --epochs', wholeNumberFrom(0))
  .option('--recipe <name>', `${namesOf(RECIPES).join(', ')}: the source of all other settings`, oneOf(RECIPES))
  .option('--image-size <px>', "side of the images (default: the recipe's)", wholeNumberFrom(1))
  .option('--batch-size <images>', "images per step (default: the recipe's)", wholeNumberFrom(1))
  .option('--micro-batch-size <images>', 'images in memory at once, a divisor of the batch size', wholeNumberFrom(1))
  .option('--optimizer <name>', `${namesOf(OPTIMIZERS).join(', ')} (default: the recipe's)`, oneOf(OPTIMIZERS))
  .option('--learning-rate <rate>', "peak of the schedule (default: the recipe's)", numberFrom(0))
  .option('--momentum <value>', 'for LARS and SGD', numberFrom(0))
  .option('--nesterov', 'with SGD')
  .option('--beta1 <value>', 'for Adam and AdamW', numberFrom(0))
  .option('--beta2 <value>', 'for Adam and AdamW', numberFrom(0))
  .option('--epsilon <value>', 'for Adam and AdamW', numberFrom(0))
  .option('--weight-decay <value>', 'weight decay, never applied to biases, norms and tokens', numberFrom(0))
  .option('--drop-path <rate>', 'for vision transformers: stochastic depth of the last block', numberFrom(0))
  .option(
    '--layer-decay <factor>',
    'for vision transformers: learning rate of a layer by that of the next',
    numberFrom(0),
  )
  .option('--temperature <value>', "temperature of the loss (default: the recipe's)", numberFrom(0))
  .option('--sampling <strategy>', namesOf(SAMPLINGS).join(', '), oneOf(SAMPLINGS))
  .option('--precision <name>', namesOf(PRECISIONS).join(', '), oneOf(PRECISIONS))
  .option('--checkpoint-every <steps>', 'steps between two kept states', wholeNumberFrom(1))
  .option(
    '--keep-states <count>',
    'last states to keep during the run, besides the best (default: 2)',
    wholeNumberFrom(1),
  )
  .option(
    '--probe <version>',
    'labelled images for the probe: a dataset or dataset@version (default: the labels of the training datasets)',
  )
  .option('--no-probe', 'train without a probe')
  .option('--probe-every <steps>', 'steps between two probes', wholeNumberFrom(1))
  .option(
    '--register <states>',
    'register these states in addition to the last: best, and steps such as 500',
    listOf(stateFrom),
  )
  .option('--from <checkpoint>', 'start from these weights: an id, model@alias or model@version')
  .option('--max-minutes <count>', 'longest running time, after which the run fails', numberFrom(0))
  .option('--needs <requirements>', NEEDS_HELP, needsFrom)
  .option('--seed <number>', 'random seed; the same seed gives the same training', wholeNumberFrom(0))
  .option('--detach', 'print the run and do not wait for it')
  .action(
    async ({
      model,
      data,
      encoder,
      method,
      methodOptions,
      budget,
      epochs,
      steps,
      recipe,
      imageSize,
      batchSize,
      microBatchSize,
      optimizer,
      learningRate,
      momentum,
      nesterov,
      beta1,
      beta2,
      epsilon,
      weightDecay,
      dropPath,
      layerDecay,
      temperature,
      sampling,
      precision,
      checkpointEvery,
      keepStates,
      probe,
      probeEvery,
      register,
      from,
      maxMinutes,
      needs,
      seed,
      detach,
      ...options
    }) => {
      if ([budget, epochs, steps].filter((extent) => extent !== undefined).length !== 1)
        throw new CommandFailure({
          exitCode: EXIT.INVALID_ARGUMENTS,
          message: 'Give one of --budget, --epochs and --steps.',
        });
      const parameters = {
        ...given('momentum', momentum),
        ...given('nesterov', nesterov),
        ...given('beta1', beta1),
        ...given('beta2', beta2),
        ...given('epsilon', epsilon),
        ...given('weightDecay', weightDecay),
      };
      if (optimizer === undefined && Object.keys(parameters).length > 0)
        throw new CommandFailure({
          exitCode: EXIT.INVALID_ARGUMENTS,
          message: `Name the optimizer that ${Object.keys(parameters).join(', ')} belongs to with --optimizer.`,
        });
      const registry = await connect(options);
      const datasets = await Promise.all(
        data.map(async ({ reference, maxImages }) => ({
          datasetVersionId: (await findVersion(registry, reference)).id,
          ...(maxImages === undefined ? {} : { maxImages }),
        })),
      );
      const { launchPretraining } = await registry.ask(LAUNCH, {
        input: {
          modelSlug: model,
          datasets,
          ...given('encoder', encoder),
          ...given('method', method),
          ...given('methodOptions', methodOptions),
          ...given('budget', budget),
          ...given('epochs', epochs),
          ...given('steps', steps),
          ...given('recipe', recipe),
          // null lets the recipe choose; leaving the field out would select the API's default.
          imageSizePx: imageSize ?? null,
          batchSize: batchSize ?? null,
          ...given('microBatchSize', microBatchSize),
          ...given('optimizer', optimizer === undefined ? undefined : { name: optimizer, ...parameters }),
          ...given('learningRate', learningRate),
          ...given('dropPathRate', dropPath),
          ...given('layerDecay', layerDecay),
          temperature: temperature ?? null,
          ...given('sampling', sampling),
          precision: precision ?? null,
          ...given('checkpointEverySteps', checkpointEvery),
          ...given('keepStates', keepStates),
          ...given('probe', await probeOf(registry, probe, probeEvery)),
          ...given('registerSteps', register === undefined ? undefined : register.filter((state) => state !== 'best')),
          ...given('registerBest', register?.includes('best')),
          ...given('seed', seed),
          ...given('initialCheckpointId', from === undefined ? undefined : (await findCheckpoint(registry, from)).id),
          ...given('maxDurationSeconds', maxMinutes === undefined ? undefined : Math.round(maxMinutes * 60)),
          ...given('requirements', needs),
        },
      });
      const run = granted(launchPretraining.run, launchPretraining);
      if (detach === true) {
        show(options, {
          data: run,
          names: [run.id],
          text: `Launched run ${run.id}. Follow it with: paraffin runs logs -f ${run.id}`,
        });
        return;
      }
      printNote(options, [`run ${run.id}`, ...run.explanation, ...waitingNote(run)].join('\n'));
      const { checkpoints, config, metrics, explanation } = await awaitRun(registry, options, run.id);
      const loss = metrics.find((series) => series.name === 'loss')?.points.at(-1)?.value;
      show(options, {
        data: { runId: run.id, config, explanation, checkpoints, metrics },
        names: checkpoints.map((checkpoint) => checkpoint.id),
        text: checkpoints
          .flatMap(({ id, version, step, byteSize, probe: verdict, model: { slug } }) => [
            `${paint('bold', `${slug}@${version}`)}  checkpoint ${id}${step === null ? '' : `, step ${step}`}${loss === undefined ? '' : `, loss ${loss.toFixed(3)}`}${byteSize === null ? '' : `, ${formatByteSize(byteSize)}`}`,
            ...(verdict === null
              ? []
              : [
                  `  ${verdict.sentence}.`,
                  ...[verdict.overlap, verdict.advice].flatMap((text) => (text === null ? [] : [`  ${text}`])),
                ]),
          ])
          // For a run with a budget: the settings that its worker chose.
          .concat(run.explanation.length === 0 ? explanation : [])
          .concat(`Evaluate it: paraffin evaluate ${model} --data DATASET`)
          .join('\n'),
      });
    },
  );

/** @throws Error with a message for the user. */
function parseOptions(text: string): Readonly<Record<string, unknown>> {
  try {
    return z.record(z.string(), z.json()).parse(JSON.parse(text));
  } catch {
    throw new Error('must be a JSON object, such as {"decoupled": true}');
  }
}

/** @throws Error with a message for the user. */
function stateFrom(text: string): 'best' | number {
  return text === 'best' ? text : wholeNumberFrom(1)(text);
}

async function probeOf(
  registry: Registry,
  probe: string | boolean | undefined,
  everySteps: number | undefined,
): Promise<(Input['probe'] & object) | undefined> {
  if (probe === false) return { enabled: false, ...given('everySteps', everySteps) };
  const version = typeof probe === 'string' ? await findVersion(registry, probe) : undefined;
  return version === undefined && everySteps === undefined
    ? undefined
    : { ...given('datasetVersionId', version?.id), ...given('everySteps', everySteps) };
}

/** Leaves out options that were not given, so that the server chooses. */
function given<Name extends string, Value>(name: Name, value: Value | undefined): Partial<Record<Name, Value>> {
  const fields: Partial<Record<Name, Value>> = {};
  if (value !== undefined) fields[name] = value;
  return fields;
}
