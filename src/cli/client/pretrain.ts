/** `paraffin pretrain`: an encoder by self-supervision, watched while it learns. */
import { listOf, namesOf, numberFrom, oneOf, wholeNumberFrom } from '../command.ts';
import { CommandFailure, EXIT } from '../exit-codes.ts';
import { byteSizeInWords } from '../terminal.ts';
import { clientCommand, connect, granted } from './connection.ts';
import { awaitRun } from './follow.ts';
import { graphql, type VariablesOf } from './graphql.ts';
import { paint, remark, show } from './output.ts';
import { findCheckpoint, findVersion } from './references.ts';

const LAUNCH = graphql(`
  mutation Pretrain($input: LaunchPretrainingInput!) {
    launchPretraining(input: $input) {
      run {
        id
        config
        queuePosition
      }
      userErrors {
        code
        field
        message
        hint
      }
    }
  }
`);
type Input = VariablesOf<typeof LAUNCH>['input'];

const ENCODERS: Readonly<Record<Input['encoder'] & string, true>> = {
  RESNET18: true,
  RESNET34: true,
  RESNET50: true,
  RESNET101: true,
};
const SAMPLINGS: Readonly<Record<Input['sampling'] & string, true>> = { EVEN: true, PROPORTIONAL: true };
const PRECISIONS: Readonly<Record<Input['precision'] & string, true>> = { FLOAT32: true, BFLOAT16: true };

/** `bach@2:5000` is at most 5,000 images of version 2. */
interface WantedDataset {
  readonly reference: string;
  readonly maxImages: number | undefined;
}

const wanted = listOf((text): WantedDataset => {
  const [reference = '', count] = text.split(':');
  return { reference, maxImages: count === undefined ? undefined : wholeNumberFrom(1)(count) };
});

export const pretrainCommand = clientCommand('pretrain', {
  summary: 'pretrain an encoder by self-supervision (SimCLR)',
  details:
    'Pretrains an encoder by self-supervision (SimCLR) and shows loss, images/s and the time left. Ctrl-C leaves the run going. Exit code 4 when the run fails.',
  examples: [
    'pretrain --model colon --data colon-biopsies --epochs 100',
    'pretrain --model mixed --data bach:5000,kather-texture-2016@1 --encoder resnet50 --batch-size 512 --precision bfloat16 --steps 20000',
    'pretrain --model colon --data colon-biopsies --steps 200 --detach --quiet',
  ],
})
  .requiredOption('-m, --model <slug>', 'the model whose next version it becomes; made if new')
  .requiredOption('-d, --data <datasets>', 'dataset, dataset@version, or either with :N for at most N images', wanted)
  .option('--encoder <name>', namesOf(ENCODERS).join(', '), oneOf(ENCODERS))
  .option('--epochs <count>', 'one of --epochs and --steps', numberFrom(0))
  .option('--steps <count>', 'one of --epochs and --steps', wholeNumberFrom(0))
  .option('--image-size <px>', 'of a view (default: 224)', wholeNumberFrom(1))
  .option('--batch-size <images>', 'for each step (default: 256)', wholeNumberFrom(1))
  .option('--micro-batch-size <images>', 'in memory at once, a divisor of the batch', wholeNumberFrom(1))
  .option('--learning-rate <rate>', 'default: 0.3 x batch size / 256', numberFrom(0))
  .option('--temperature <value>', 'of the loss (default: 0.5)', numberFrom(0))
  .option('--sampling <strategy>', namesOf(SAMPLINGS).join(', '), oneOf(SAMPLINGS))
  .option('--precision <name>', namesOf(PRECISIONS).join(', '), oneOf(PRECISIONS))
  .option('--checkpoint-every <steps>', 'keep the state so often', wholeNumberFrom(1))
  .option('--from <checkpoint>', 'begin with these weights: an id, model@alias or model@version')
  .option('--max-minutes <count>', 'end it as FAILED after so long', numberFrom(0))
  .option('--seed <number>', 'the same seed gives the same training', wholeNumberFrom(0))
  .option('--detach', 'print the run and do not wait for it')
  .action(
    async ({
      model,
      data,
      encoder,
      epochs,
      steps,
      imageSize,
      batchSize,
      microBatchSize,
      learningRate,
      temperature,
      sampling,
      precision,
      checkpointEvery,
      from,
      maxMinutes,
      seed,
      detach,
      ...options
    }) => {
      if ((epochs === undefined) === (steps === undefined))
        throw new CommandFailure({ exitCode: EXIT.MISUSED, message: 'Give one of --epochs and --steps.' });
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
          ...given('epochs', epochs),
          ...given('steps', steps),
          ...given('imageSizePx', imageSize),
          ...given('batchSize', batchSize),
          ...given('microBatchSize', microBatchSize),
          ...given('learningRate', learningRate),
          ...given('temperature', temperature),
          ...given('sampling', sampling),
          ...given('precision', precision),
          ...given('checkpointEverySteps', checkpointEvery),
          ...given('seed', seed),
          ...given('initialCheckpointId', from === undefined ? undefined : (await findCheckpoint(registry, from)).id),
          ...given('maxDurationSeconds', maxMinutes === undefined ? undefined : Math.round(maxMinutes * 60)),
        },
      });
      const run = granted(launchPretraining.run, launchPretraining);
      if (detach === true) {
        show(options, {
          data: run,
          names: [run.id],
          text: `Run ${run.id} is launched. Watch: paraffin runs logs -f ${run.id}`,
        });
        return;
      }
      remark(options, `run ${run.id}`);
      const { checkpoints, metrics } = await awaitRun(registry, options, run.id);
      const loss = metrics.find((series) => series.name === 'loss')?.points.at(-1)?.value;
      show(options, {
        data: { runId: run.id, config: run.config, checkpoints, metrics },
        names: checkpoints.map((checkpoint) => checkpoint.id),
        text: checkpoints
          .map(
            ({ id, version, byteSize, model: { slug } }) =>
              `${paint('bold', `${slug}@${version}`)}  checkpoint ${id}${loss === undefined ? '' : `, loss ${loss.toFixed(3)}`}${byteSize === null ? '' : `, ${byteSizeInWords(byteSize)}`}`,
          )
          .concat(`Evaluate it: paraffin evaluate ${model} --data DATASET`)
          .join('\n'),
      });
    },
  );

/** What was not given is left to the server. */
function given<Name extends string, Value>(name: Name, value: Value | undefined): Partial<Record<Name, Value>> {
  const made: Partial<Record<Name, Value>> = {};
  if (value !== undefined) made[name] = value;
  return made;
}
