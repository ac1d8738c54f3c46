/** The pretraining methods: their settings at a launch, and SimCLR's trainings from before there were others. */
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { DomainError } from '../../src/errors.ts';
import { encoderTensorsOf } from '../../src/formats/encoder-file.ts';
import { architectureNamed } from '../../src/formats/encoders/index.ts';
import { parseInput } from '../../src/input.ts';
import {
  checkPretrainingChoice,
  launchPretrainingSchema,
  methodOf,
} from '../../src/modules/runs/pretraining-input.rules.ts';
import { pretrainingConfigSchema, unplannedPretrainingSchema } from '../../src/protocol/pretraining/config.ts';
import {
  describeMethod,
  methodInWords,
  methodNameIn,
  methodNames,
} from '../../src/protocol/pretraining/methods/index.ts';
import { createAugmenter } from '../../workers/engine/augment/augmenter.ts';
import { DEFAULT_AUGMENTATION } from '../../workers/engine/augment/config.ts';
import { createEncoder } from '../../workers/engine/encoders/resnet/network.ts';
import { barlowTwinsLoss } from '../../workers/engine/methods/barlow-twins/loss.ts';
import type { MethodConfig } from '../../workers/engine/methods/index.ts';
import { vicregLoss } from '../../workers/engine/methods/vicreg/loss.ts';
import { ntXent } from '../../workers/engine/losses/nt-xent.ts';
import { ProjectionHead, randomProjectionHead } from '../../workers/engine/models/projection-head.ts';
import type { NamedTensor } from '../../workers/engine/named-tensor.ts';
import { createOptimizer } from '../../workers/engine/optim/index.ts';
import { learningRateAt } from '../../workers/engine/optim/schedule.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank2, asRank4, liveTensorCount, readFloat, readFloats, tf } from '../../workers/engine/tensorflow.ts';
import type { StepViews } from '../../workers/engine/train/step-views.ts';
import { createTrainer, type Trainer } from '../../workers/engine/train/trainer.ts';
import { formulaImages, formulaViews, formulaWeights } from '../golden/formula.ts';

const launch = (changes: Record<string, unknown>) =>
  parseInput(launchPretrainingSchema, {
    modelSlug: 'tissue',
    datasets: [{ datasetVersionId: '00000000-0000-4000-8000-000000000001' }],
    encoder: 'RESNET18',
    steps: 100,
    sampling: 'EVEN',
    ...changes,
  });

function refused(changes: Record<string, unknown>, field: string, message: RegExp): void {
  assert.throws(
    () => checkPretrainingChoice(launch(changes)),
    (error) =>
      error instanceof DomainError &&
      error.code === 'BAD_INPUT' &&
      error.field === field &&
      message.test(error.message),
  );
}

describe('the method of a launch', () => {
  test('is SimCLR if none is named, at a temperature of 0.5 unless null asks for the recipe', () => {
    assert.deepEqual(methodOf(launch({})), { name: 'SIMCLR', temperature: 0.5, projectionDim: 128, decoupled: false });
    assert.deepEqual(methodOf(launch({ temperature: null })), {
      name: 'SIMCLR',
      temperature: 0.2,
      projectionDim: 128,
      decoupled: false,
    });
  });

  for (const name of methodNames())
    test(`${name}: its defaults are a config of its own, which its sentence tells; an unknown option is refused`, () => {
      const config = methodOf(launch({ method: name, temperature: null }));
      assert.equal(config.name, name);
      assert.equal(methodNameIn({ method: config }), name);
      const sentence = methodInWords(config);
      assert.ok(sentence.startsWith(describeMethod(name).title));
      for (const setting of Object.keys(config)) assert.ok(setting === 'name' || sentence.includes(setting), setting);
      refused({ method: name, methodOptions: { momentun: 0.9 } }, 'input.methodOptions', /momentun/);
    });

  test('takes the options that are named, each within its range', () => {
    assert.deepEqual(methodOf(launch({ methodOptions: { projectionDim: 64 } })), {
      name: 'SIMCLR',
      temperature: 0.5,
      projectionDim: 64,
      decoupled: false,
    });
    assert.deepEqual(methodOf(launch({ method: 'VICREG', methodOptions: { varianceWeight: 10 } })), {
      name: 'VICREG',
      projectionDim: 2048,
      invarianceWeight: 25,
      varianceWeight: 10,
      covarianceWeight: 1,
    });
    refused({ methodOptions: { projectionDim: 0 } }, 'input.methodOptions.projectionDim', /at least 1/);
  });

  test('MoCo has the options of its version', () => {
    const v3 = methodOf(launch({ method: 'MOCO', methodOptions: { version: 'V3', hiddenDim: 512 } }));
    assert.deepEqual(v3, {
      name: 'MOCO',
      version: 'V3',
      projectionDim: 256,
      contrastTemperature: 0.2,
      keyMomentum: 0.99,
      hiddenDim: 512,
    });
    refused({ method: 'MOCO', methodOptions: { hiddenDim: 512 } }, 'input.methodOptions', /hiddenDim/);
    refused({ method: 'MOCO', methodOptions: { version: 'V3', queueSize: 9 } }, 'input.methodOptions', /queueSize/);
    refused({ method: 'MOCO', methodOptions: { version: 'V1' } }, 'input.methodOptions.version', /./);
    refused({ method: 'MOCO', methodOptions: { queueSize: 0 } }, 'input.methodOptions.queueSize', /at least 1/);
  });

  test('DINO refuses small crops whose least area exceeds their greatest', () => {
    const methodOptions = { localCropScaleMin: 0.3 };
    refused({ method: 'DINO', methodOptions }, 'input.methodOptions.localCropScaleMin', /must not exceed/);
  });

  test('is refused with a temperature that its loss does not have, and with a recipe that has no values for it', () => {
    refused({ method: 'BARLOW_TWINS', temperature: 0.2 }, 'input.temperature', /Barlow Twins has no temperature/);
    refused({ method: 'VICREG', recipe: 'PAPER' }, 'input.recipe', /PAPER has no values for VICReg/);
  });
});

/** Recorded before methods were folders, when temperature and projectionDim were fields of a run's config. */
const OLDER = { temperature: 0.2, projectionDim: 16 } as const;
const OLDER_START_SHA256 = '75ec6d7e01a97e658f81698880307467d2ddc6bfe68c34a4e2be87a1c864298b';

describe('a SimCLR run from before methods were folders', () => {
  test('has a config that reads as the same settings', () => {
    for (const schema of [pretrainingConfigSchema, unplannedPretrainingSchema]) {
      const issues = schema.safeParse(OLDER).error?.issues.map(({ path }) => String(path[0])) ?? [];
      assert.ok(issues.length > 0 && !issues.includes('method'), issues.join(' '));
    }
    assert.equal(methodNameIn(OLDER), 'SIMCLR');
  });

  test('starts from the same bits, and takes its steps to the same bits as before', async () => {
    const schedule = { peakLearningRate: 0.001, warmupSteps: 2, totalSteps: 20 };
    const config = { name: 'ADAMW', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 1e-4 } as const;
    const random = createRandom(11).fork('weights');
    const trainer = createTrainer({
      ...schedule,
      architecture: architectureNamed('RESNET18'),
      method: { name: 'SIMCLR', ...OLDER },
      optimizer: config,
      seedRandom: random,
    });
    assert.equal(digestOf(trainer.saveState()), OLDER_START_SHA256);

    // The step as it was written before: its parts, in its order.
    const encoder = createEncoder('RESNET18', random.fork('encoder'));
    const head = new ProjectionHead(512, 16, randomProjectionHead(512, 16, random.fork('projection head')));
    const optimizer = createOptimizer([...encoder.parameters, ...head.parameters], config);
    for (let stepIndex = 0; stepIndex < 3; stepIndex += 1) {
      const views = formulaViews(stepIndex, 4, 32, 32);
      const { loss, series } = await trainer.step(views);
      const embeddings = encoder.forward(views);
      const projections = head.forward(embeddings);
      const expected = ntXent(projections, OLDER.temperature);
      const embeddingGradient = head.backward(expected.gradient);
      encoder.backward(embeddingGradient);
      const update = optimizer.prepare();
      update.apply(
        { stepIndex, learningRate: learningRateAt(schedule, stepIndex) },
        readFloats(update.halfSquaredNorms),
      );
      update.dispose();
      encoder.commitStatistics();
      assert.deepEqual(
        [loss, series['positiveSimilarity']],
        [readFloat(expected.loss), readFloat(expected.positiveSimilarity)],
      );
      tf.dispose([views, embeddings, projections, embeddingGradient, ...Object.values(expected)]);
    }
    const state = trainer.saveState().filter(({ name }) => name !== 'step');
    assert.equal(digestOf(state), digestOf([...encoder.weights(), ...head.weights(), ...optimizer.state()]));
    trainer.dispose();
    encoder.dispose();
    head.dispose();
    optimizer.dispose();
  });
});

function digestOf(tensors: readonly NamedTensor[]): string {
  const digest = createHash('sha256');
  for (const { name, dtype, shape, data } of tensors) {
    digest.update(`${name} ${dtype} ${shape.join(',')}\n`);
    digest.update(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  }
  return digest.digest('hex');
}

/** Drawn only once, because eleven million numbers take a while. */
const WEIGHTS = formulaWeights('RESNET18');

describe('a trainer of each method', () => {
  const options = (method: MethodConfig, microBatchSize?: number) => ({
    architecture: architectureNamed('RESNET18'),
    method,
    peakLearningRate: 0.001,
    warmupSteps: 0,
    totalSteps: 10,
    optimizer: { name: 'ADAMW', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 1e-4 } as const,
    seedRandom: createRandom(3),
    initialWeights: WEIGHTS,
    ...(microBatchSize === undefined ? {} : { microBatchSize }),
  });
  const small: readonly MethodConfig[] = [
    { name: 'SIMCLR', temperature: 0.2, projectionDim: 16, decoupled: true },
    { name: 'BARLOW_TWINS', projectionDim: 16, redundancyWeight: 0.0051 },
    { name: 'VICREG', projectionDim: 16, invarianceWeight: 25, varianceWeight: 25, covarianceWeight: 1 },
    {
      name: 'DINO',
      prototypeCount: 24,
      hiddenDim: 16,
      bottleneckDim: 8,
      studentTemperature: 0.1,
      teacherTemperature: 0.04,
      teacherMomentum: 0.9,
      centreMomentum: 0.9,
      localViewCount: 2,
      localCropScaleMin: 0.05,
      localCropScaleMax: 0.25,
    },
    { name: 'MOCO', version: 'V2', projectionDim: 8, contrastTemperature: 0.2, keyMomentum: 0.9, queueSize: 12 },
    { name: 'MOCO', version: 'V3', projectionDim: 8, contrastTemperature: 0.2, keyMomentum: 0.9, hiddenDim: 16 },
  ];

  /** The views that the trainer's method wants of the images of a step. */
  function viewsOf(trainer: Trainer, step: number, imageCount: number): StepViews {
    const augmenter = createAugmenter(trainer.views({ sizePx: 40, augmentation: DEFAULT_AUGMENTATION }));
    const drawn = augmenter.draw(imageCount, 48, createRandom(step));
    const make: StepViews['make'] = (start, count, group) =>
      tf.tidy(() => {
        const pixels = tf.add(tf.mul(formulaImages(imageCount, 48, 48), 60), 128);
        return drawn.make(asRank4(tf.slice(pixels, start, count)), start, group);
      });
    return { imageCount, viewCounts: augmenter.viewCounts, make };
  }

  test('is tested for every method', () => {
    assert.deepEqual([...new Set(small.map(({ name }) => name))].sort(), methodNames().sort());
  });

  for (const method of small)
    test(`${Object.values(method).slice(0, 2).join(' ')}: continues bit for bit from its saved state, in parts too, and frees every tensor`, async () => {
      const before = liveTensorCount();
      const through = createTrainer(options(method, 2));
      const resumed = createTrainer({ ...options(method, 2), seedRandom: createRandom(4) });
      await through.step(viewsOf(through, 0, 4));
      resumed.restoreState(through.saveState());
      assert.deepEqual(await resumed.step(viewsOf(resumed, 1, 4)), await through.step(viewsOf(through, 1, 4)));
      assert.equal(digestOf(resumed.saveState()), digestOf(through.saveState()));
      // What the registry finds in a saved state is what the trainer exports.
      const exported = encoderTensorsOf(architectureNamed('RESNET18'), through.saveState());
      assert.equal(digestOf(exported), digestOf(through.encoderWeights()));
      const whole = createTrainer(options(method));
      await assert.rejects(whole.step(viewsOf(whole, 0, 1)), RangeError);
      const { viewCounts, ...one } = viewsOf(whole, 0, 4);
      const others = { ...one, viewCounts: [...viewCounts.slice(0, -1), (viewCounts.at(-1) ?? 0) - 1] };
      await assert.rejects(whole.step(others), RangeError);
      for (const trainer of [through, resumed, whole]) trainer.dispose();
      assert.equal(liveTensorCount(), before);
    });

  test('shows a collapse: projections on a line are redundant, equal ones have the full hinge', () => {
    const line = tf.tensor2d([1, 2, 3, 4, 2, 4, 6, 8, -1, -2, -3, -4, 0, 0, 0, 0], [4, 4]);
    const equal = asRank2(tf.ones([4, 4]));
    const ofEqual = vicregLoss(equal, { invarianceWeight: 25, varianceWeight: 25, covarianceWeight: 1 });
    const ofLine = barlowTwinsLoss(line, 0.0051);
    // The root of the epsilon is what equal projections have of a standard deviation.
    assert.ok(Math.abs(readFloat(ofEqual.series['varianceHinge'] ?? equal) - 0.99) < 1e-6);
    assert.ok(Math.abs(readFloat(ofLine.series['redundancy'] ?? line) - 1) < 1e-3);
    for (const { loss, gradient, series } of [ofEqual, ofLine]) {
      assert.ok([...readFloats(gradient)].every(Number.isFinite));
      tf.dispose([loss, gradient, ...Object.values(series)]);
    }
    tf.dispose([line, equal]);
  });
});
