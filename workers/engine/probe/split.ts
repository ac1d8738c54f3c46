/** The plan of a probe: folds that are drawn here, or the dataset version's own split. */
import { sha256OfLines } from '../data/digest.ts';
import { ProbeError } from './errors.ts';
import { assignFolds, assignGroupFolds, type LabelledImages } from './folds.ts';

/** One fit: indexes of its training and test images. */
export interface SplitPart {
  readonly train: Int32Array;
  readonly test: Int32Array;
}

export interface SplitPlan {
  readonly kind: 'GROUPED_FOLDS' | 'GIVEN';
  readonly parts: readonly SplitPart[];
  readonly groupCount: number;
  /**
   * sha256 over the part in which each image is tested (-1 = never), in the order of the images, with their groups and
   * labels.
   */
  readonly digest: string;
}

/**
 * `splits` (`[N]`, null for an image without one) is used if any image has one: train and validation images are trained
 * on, test images are tested on. Otherwise folds are drawn. Throws ProbeError as assignFolds does, and SPLIT_INVALID
 * for a split that is unknown, missing for some images, without a test or train part, or that divides a group.
 */
export function planSplit(
  images: LabelledImages,
  splits: readonly (string | null)[] | undefined,
  foldCount: number,
  seed: number,
): SplitPlan {
  const facts = Array.from(images.labels, (label) => images.labelNames[label] ?? null);
  if (splits?.some((split) => split !== null) === true)
    return planOf('GIVEN', images.groups, facts, assignBySplit(images, splits), 1);
  return planOf('GROUPED_FOLDS', images.groups, facts, assignFolds(images, foldCount, seed), foldCount);
}

/** Like `planSplit`, for predicting numbers: no label has to be in both parts. `targets` and `groups` are `[N]`. */
export function planNumberSplit(
  targets: Float64Array,
  groups: readonly string[],
  splits: readonly (string | null)[] | undefined,
  foldCount: number,
  seed: number,
): SplitPlan {
  const facts = Array.from(targets);
  if (splits?.some((split) => split !== null) === true)
    return planOf('GIVEN', groups, facts, assignByRole(groups, splits), 1);
  return planOf('GROUPED_FOLDS', groups, facts, assignGroupFolds(groups, foldCount, seed), foldCount);
}

/** `facts` and `assignment` are `[N]`: the label or number of each image, and the part in which it is tested, or -1. */
function planOf(
  kind: SplitPlan['kind'],
  groups: readonly string[],
  facts: readonly (string | number | null)[],
  assignment: Int32Array,
  partCount: number,
): SplitPlan {
  const parts = Array.from({ length: partCount }, (_, part) => ({
    train: Int32Array.from(assignment.keys()).filter((image) => assignment[image] !== part),
    test: Int32Array.from(assignment.keys()).filter((image) => assignment[image] === part),
  }));
  const lines = assignment.entries().map(([image, part]) => JSON.stringify([part, groups[image], facts[image]]));
  return { kind, parts, groupCount: new Set(groups).size, digest: sha256OfLines(lines) };
}

type SplitRole = 'TRAIN' | 'TEST';

function assignBySplit({ labels, groups }: LabelledImages, splits: readonly (string | null)[]): Int32Array {
  const assignment = assignByRole(groups, splits);
  for (const [role, part] of [
    ['train', -1],
    ['test', 0],
  ] as const) {
    if (new Set(labels.filter((_, image) => assignment[image] === part)).size < 2) {
      throw new ProbeError(
        'TOO_FEW_LABELS',
        'datasetVersionId',
        `The ${role} images of the version's split are all of one label.`,
      );
    }
  }
  return assignment;
}

function assignByRole(groups: readonly string[], splits: readonly (string | null)[]): Int32Array {
  const roleOfGroup = new Map<string, SplitRole>();
  const assignment = Int32Array.from(groups, (group, image) => {
    const role = roleOf(splits[image] ?? null);
    if ((roleOfGroup.get(group) ?? role) !== role) {
      throw new ProbeError(
        'SPLIT_INVALID',
        'datasetVersionId',
        `The version's split divides group ${group} between learning and testing.`,
      );
    }
    roleOfGroup.set(group, role);
    return role === 'TEST' ? 0 : -1;
  });
  for (const [role, part] of [
    ['train', -1],
    ['test', 0],
  ] as const) {
    if (!assignment.includes(part))
      throw new ProbeError('SPLIT_INVALID', 'datasetVersionId', `The version's split has no ${role} images.`);
  }
  return assignment;
}

function roleOf(split: string | null): SplitRole {
  switch (split?.toLowerCase()) {
    case 'train':
    case 'training':
    case 'val':
    case 'valid':
    case 'validation':
      return 'TRAIN';
    case 'test':
    case 'testing':
      return 'TEST';
    default: {
      const what =
        split === null ? 'Some images have a split and others do not' : `Split ${JSON.stringify(split)} is unknown`;
      throw new ProbeError(
        'SPLIT_INVALID',
        'datasetVersionId',
        `${what}; every image needs one of train, validation, test.`,
      );
    }
  }
}
