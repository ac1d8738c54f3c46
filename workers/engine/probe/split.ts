/** The plan of a probe: folds that it draws itself, or the split that the dataset version brings. */
import { sha256Hex } from '../data/digest.ts';
import { ProbeError } from './errors.ts';
import { assignFolds, type LabelledImages } from './folds.ts';

/** One fit: indexes of the images that are learned from and tested on. */
export interface SplitPart {
  readonly train: Int32Array;
  readonly test: Int32Array;
}

export interface SplitPlan {
  readonly kind: 'GROUPED_FOLDS' | 'GIVEN';
  readonly parts: readonly SplitPart[];
  readonly groupCount: number;
  /** sha256 over the part in which each image is tested (-1 = never), in the order of the images, with their groups and labels. */
  readonly digest: string;
}

/**
 * `splits` (`[N]`, null for an image without one) is followed where any image has one: train and validation are learned from, test is tested
 * on. Otherwise folds are drawn. Throws ProbeError as assignFolds does, and SPLIT_INVALID for a split that is unknown, missing for
 * some images, without a test or train part, or that divides a group.
 */
export function planSplit(images: LabelledImages, splits: readonly (string | null)[] | undefined, foldCount: number, seed: number): SplitPlan {
  if (splits?.some((split) => split !== null) === true) return planOf('GIVEN', images, givenAssignment(images, splits), 1);
  return planOf('GROUPED_FOLDS', images, assignFolds(images, foldCount, seed), foldCount);
}

/** `assignment` is `[N]`: the part in which each image is tested, or -1. */
function planOf(kind: SplitPlan['kind'], { labels, groups, labelNames }: LabelledImages, assignment: Int32Array, partCount: number): SplitPlan {
  const parts = Array.from({ length: partCount }, (_, part) => ({
    train: Int32Array.from(assignment.keys()).filter((image) => assignment[image] !== part),
    test: Int32Array.from(assignment.keys()).filter((image) => assignment[image] === part),
  }));
  const lines = Array.from(assignment, (part, image) => JSON.stringify([part, groups[image], labelNames[labels[image] ?? -1]]));
  return { kind, parts, groupCount: new Set(groups).size, digest: sha256Hex(lines.join('\n')) };
}

type SplitRole = 'TRAIN' | 'TEST';

function givenAssignment({ labels, groups }: LabelledImages, splits: readonly (string | null)[]): Int32Array {
  const roleOfGroup = new Map<string, SplitRole>();
  const assignment = Int32Array.from(labels, (_, image) => {
    const role = roleOf(splits[image] ?? null);
    const group = groups[image] ?? '';
    if ((roleOfGroup.get(group) ?? role) !== role) {
      throw new ProbeError('SPLIT_INVALID', 'datasetVersionId', `The version's split divides group ${group} between learning and testing.`);
    }
    roleOfGroup.set(group, role);
    return role === 'TEST' ? 0 : -1;
  });
  for (const [role, part] of [['train', -1], ['test', 0]] as const) {
    const known = new Set(labels.filter((_, image) => assignment[image] === part));
    if (known.size === 0) throw new ProbeError('SPLIT_INVALID', 'datasetVersionId', `The version's split has no ${role} images.`);
    if (known.size < 2) throw new ProbeError('TOO_FEW_LABELS', 'datasetVersionId', `The ${role} images of the version's split are all of one label.`);
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
      const what = split === null ? 'Some images have a split and others none' : `Split ${JSON.stringify(split)} is unknown`;
      throw new ProbeError('SPLIT_INVALID', 'datasetVersionId', `${what}; every image needs one of train, validation, test.`);
    }
  }
}
