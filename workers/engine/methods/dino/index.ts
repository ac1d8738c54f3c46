/**
 * DINO (Caron et al. 2021, arXiv:2104.14294): a student learns to give every view of an image, among them small crops,
 * the distribution over prototypes that its teacher, a moving average of itself, gives the two large crops. The teacher
 * is the encoder that is exported, as in the paper.
 */
import { EXPORTED_ENCODER } from '../../../../src/formats/encoders/exported.ts';
import { describeEncoder } from '../../../../src/formats/encoders/index.ts';
import type { TensorExpectation } from '../../../../src/formats/tensor-check.ts';
import { asymmetricPairOf, type ViewGroup, type ViewSpec } from '../../augment/config.ts';
import { toDevice, fromDevice, type Parameter } from '../../models/parameter.ts';
import type { NamedTensor } from '../../named-tensor.ts';
import { asRank2, scoped, tf } from '../../tensorflow.ts';
import type { Tensor2D } from '../../tensorflow.ts';
import { requireViews } from '../method.ts';
import type {
  EmbeddedBatch,
  Learned,
  Learner,
  Method,
  MethodSetting,
  PretrainingMethod,
  TakenStep,
} from '../method.ts';
import {
  followParameters,
  momentumAt,
  momentumCopy,
  MomentumEncoder,
  momentumExpectations,
} from '../momentum-encoder.ts';
import { DinoHead, dinoHeadExpectations, randomDinoHead, type DinoHeadShape } from './head.ts';
import { dinoLoss, GLOBAL_VIEWS, type DinoTemperatures } from './loss.ts';

/** The paper's values are in brackets. */
export interface DinoConfig extends DinoTemperatures {
  readonly name: 'DINO';
  /** K, the length of the head's output [65536]. */
  readonly prototypeCount: number;
  /** Length of the head's two hidden layers [2048]. */
  readonly hiddenDim: number;
  /** Length of the head's projection on the unit sphere [256]. */
  readonly bottleneckDim: number;
  /** Of the student's softmax [0.1]. */
  readonly studentTemperature: number;
  /** Of the teacher's softmax [0.04, later 0.07]. */
  readonly teacherTemperature: number;
  /** The share of its weights that the teacher keeps in the first step; it rises to 1 along a cosine [0.996]. */
  readonly teacherMomentum: number;
  /** The share of itself that the centre keeps in a step [0.9]. */
  readonly centreMomentum: number;
  /** Small crops of each image, beside the two large ones [8 or 10]. */
  readonly localViewCount: number;
  /** Least part of the image's area that a small crop keeps [0.05]. */
  readonly localCropScaleMin: number;
  /** Greatest part [0.4, or 0.25 for the published vision transformers]. */
  readonly localCropScaleMax: number;
}

export const DINO: PretrainingMethod<DinoConfig> = { name: 'DINO', prepare };

const CENTRE = 'centre';

/** @throws RangeError for a value out of range. */
function prepare(config: DinoConfig, setting: MethodSetting): Method {
  checkConfig(config);
  const { hiddenDim, bottleneckDim, prototypeCount } = config;
  const shape = { embeddingDim: setting.embeddingDim, hiddenDim, bottleneckDim, prototypeCount };
  const studentHead: DinoHeadShape = { ...shape, prefix: 'head' };
  const teacherHead: DinoHeadShape = { ...shape, prefix: 'teacher.head' };
  const centre: TensorExpectation = { name: CENTRE, dtype: 'F32', shape: [1, prototypeCount], required: true };
  return {
    views: (usual) => viewsOf(config, usual, setting),
    trained: dinoHeadExpectations(studentHead),
    kept: [...momentumExpectations(EXPORTED_ENCODER, setting), ...dinoHeadExpectations(teacherHead), centre],
    initialState: (random, encoderWeights) => {
      const head = randomDinoHead(studentHead, random.fork('head'));
      return [
        ...head,
        ...momentumCopy(EXPORTED_ENCODER, encoderWeights),
        // The teacher begins as a copy of the student.
        ...head.map((tensor) => ({ ...tensor, name: `teacher.${tensor.name}` })),
        { name: CENTRE, dtype: 'F32', shape: [1, prototypeCount], data: new Float32Array(prototypeCount) },
      ];
    },
    open: (tensors) => {
      const own = (prefix: string): NamedTensor[] => tensors.filter(({ name }) => name.startsWith(prefix));
      const [centreValues] = own(CENTRE);
      if (centreValues === undefined) throw new Error('The centre is missing from tensors that were checked.');
      return new DinoLearner(config, {
        head: new DinoHead(studentHead, own('head.')),
        teacher: new MomentumEncoder(EXPORTED_ENCODER, tensors, setting),
        teacherHead: new DinoHead(teacherHead, own('teacher.head.')),
        centre: asRank2(toDevice(centreValues, 'AS_IS')),
      });
    },
  };
}

function checkConfig(config: DinoConfig): void {
  const isWholeFrom = (minimum: number) => (value: number) => Number.isSafeInteger(value) && value >= minimum;
  const isPositive = (value: number): boolean => value > 0 && Number.isFinite(value);
  const isShare = (value: number): boolean => value >= 0 && value <= 1;
  const rules = {
    prototypeCount: isWholeFrom(2),
    hiddenDim: isWholeFrom(1),
    bottleneckDim: isWholeFrom(1),
    studentTemperature: isPositive,
    teacherTemperature: isPositive,
    teacherMomentum: isShare,
    centreMomentum: isShare,
    localViewCount: isWholeFrom(0),
    localCropScaleMin: (value) => isPositive(value) && value <= config.localCropScaleMax,
    localCropScaleMax: (value) => isPositive(value) && value <= 1,
  } satisfies Readonly<Record<Exclude<keyof DinoConfig, 'name'>, (value: number) => boolean>>;
  for (const [setting, value] of Object.entries(config)) {
    const rule = Object.entries(rules).find(([name]) => name === setting)?.[1];
    if (rule !== undefined && !rule(value)) throw new RangeError(`${setting} must not be ${value}.`);
  }
}

/** As in the paper. */
const LOCAL_SIDE = { localPx: 96, globalPx: 224 };

/** Two large crops, of which BYOL's pair is made, and the small ones in a group of their own, half of them blurred. */
function viewsOf(
  { localViewCount, localCropScaleMin, localCropScaleMax }: DinoConfig,
  usual: ViewSpec,
  { architecture }: MethodSetting,
): readonly ViewGroup[] {
  const { sizePx, augmentation } = usual;
  const [global] = asymmetricPairOf(usual);
  if (localViewCount === 0) return [global];
  const local = {
    ...augmentation,
    blurProbability: augmentation.blurProbability === 0 ? 0 : 0.5,
    cropScaleMin: localCropScaleMin,
    cropScaleMax: localCropScaleMax,
  };
  const { imageSizeFault } = describeEncoder(architecture);
  // The next larger side that the encoder takes; at the latest that of the large crops.
  let localSizePx = Math.ceil((LOCAL_SIDE.localPx * sizePx) / LOCAL_SIDE.globalPx);
  while (localSizePx < sizePx && imageSizeFault(localSizePx) !== undefined) localSizePx += 1;
  return [global, { sizePx: localSizePx, augmentations: Array.from({ length: localViewCount }, () => local) }];
}

interface DinoParts {
  readonly head: DinoHead;
  readonly teacher: MomentumEncoder;
  readonly teacherHead: DinoHead;
  /** [1, K] */
  readonly centre: Tensor2D;
}

class DinoLearner implements Learner {
  readonly #config: DinoConfig;
  readonly #head: DinoHead;
  readonly #teacher: MomentumEncoder;
  readonly #teacherHead: DinoHead;
  #centre: Tensor2D;
  /** Of the step that is not committed yet. */
  #teacherMean: Tensor2D | undefined;

  constructor(config: DinoConfig, { head, teacher, teacherHead, centre }: DinoParts) {
    this.#config = config;
    this.#head = head;
    this.#teacher = teacher;
    this.#teacherHead = teacherHead;
    this.#centre = centre;
  }

  get parameters(): readonly Parameter[] {
    return this.#head.parameters;
  }

  learn(batch: EmbeddedBatch): Learned {
    const { localViewCount } = this.#config;
    requireViews('DINO', batch, localViewCount === 0 ? [GLOBAL_VIEWS] : [GLOBAL_VIEWS, localViewCount]);
    if (batch.views.imageCount < 2) throw new RangeError('DINO takes at least 2 images, whose outputs it centres.');
    const teacherEmbeddings = this.#teacher.embed(batch);
    const teacherOutputs = this.#teacherHead.infer(teacherEmbeddings);
    const outputs = this.#head.forward(batch.embeddings);
    try {
      const { loss, gradient, teacherMean, series } = dinoLoss(outputs, teacherOutputs, this.#centre, this.#config);
      this.#teacherMean = teacherMean;
      const embeddingGradient = this.#head.backward(gradient);
      gradient.dispose();
      return { loss, embeddingGradient, series };
    } finally {
      tf.dispose([teacherEmbeddings, teacherOutputs, outputs]);
    }
  }

  commit(step: TakenStep): void {
    const { teacherMomentum, centreMomentum } = this.#config;
    const momentum = momentumAt(teacherMomentum, step);
    this.#teacher.commit(step, momentum);
    followParameters(this.#teacherHead.parameters, this.#head.parameters, momentum);
    const [centre, mean] = [this.#centre, this.#teacherMean];
    if (mean === undefined) throw new Error('DINO: a step without outputs of the teacher.');
    this.#centre = asRank2(scoped(() => tf.add(tf.mul(centre, centreMomentum), tf.mul(mean, 1 - centreMomentum))));
    centre.dispose();
  }

  discard(): void {
    this.#head.discard();
    this.#teacher.discard();
    this.#teacherMean?.dispose();
    this.#teacherMean = undefined;
  }

  state(): NamedTensor[] {
    return [
      ...this.#head.weights(),
      ...this.#teacher.state(),
      ...this.#teacherHead.weights(),
      fromDevice(CENTRE, this.#centre, 'AS_IS'),
    ];
  }

  exportedEncoder(): NamedTensor[] {
    return this.#teacher.weights();
  }

  dispose(): void {
    this.discard();
    this.#head.dispose();
    this.#teacher.dispose();
    this.#teacherHead.dispose();
    this.#centre.dispose();
  }
}
