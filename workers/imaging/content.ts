/** Counts the images of a version by label, split and group, and finds what looks like a mistake. Pure. */
import type { IssueSink } from './issues.ts';
import { isNumeric, lookAlikes } from './label-text.ts';
import { compareCodePoints, type SourceImage } from './listing.ts';

export interface LabelCount {
  readonly label: string;
  readonly count: number;
}

export interface SplitCount {
  readonly split: string;
  readonly count: number;
}

/** The latest sealed version of the same dataset. */
export interface PreviousVersion {
  readonly version: number;
  readonly labelNames: readonly string[];
  readonly imageCount: number;
  readonly groupCount: number;
  /** Null if it is not known. */
  readonly ungroupedImageCount: number | null;
}

export interface ContentCounts {
  /** Whether an image of this source is in the version. */
  add(source: SourceImage): void;
  readonly imageCount: number;
  /** Images whose patient or slide is unknown. */
  readonly ungroupedImageCount: number;
  /** Known groups. */
  readonly groupCount: number;
  /** Sorted by code point. */
  labelCounts(): LabelCount[];
  splitCounts(): SplitCount[];
  /**
   * Adds the issues that only all images together show: unknown groups, groups across splits, look-alike names, labels
   * that are lists.
   */
  addIssues(issues: IssueSink): void;
  /** Sentences that say why no protocol can evaluate on these images. Empty if one can. */
  evaluationFaults(): string[];
  /**
   * Sentences that say what the previous version had and these images lack.
   * @param hasAllImages false if the images are still to be cut into patches.
   */
  losses(previous: PreviousVersion, hasAllImages: boolean): string[];
}

/** How many labels or groups a sentence names; the others are counted. */
const NAMED_MAX = 5;

export function createContentCounts(): ContentCounts {
  const labels = new Map<string, number>();
  const splits = new Map<string, number>();
  const splitsOfGroup = new Map<string, Set<string | null>>();
  let firstUngrouped: string | undefined;
  /** Two groups of each label are enough. */
  const groupsOfLabel = new Map<string, Set<string>>();
  const labelsOfRole = { TRAIN: new Set<string>(), TEST: new Set<string>() };
  let imageCount = 0;
  let ungroupedImageCount = 0;
  const inOrder = (counts: ReadonlyMap<string, number>): [string, number][] =>
    [...counts].sort(([a], [b]) => compareCodePoints(a, b));
  const groupsWhere = (holds: (splits: ReadonlySet<string | null>) => boolean): string[] =>
    [...splitsOfGroup].flatMap(([group, within]) => (holds(within) ? [group] : [])).sort(compareCodePoints);

  /** The images have their own split. */
  const splitFaults = (): string[] => {
    const { TRAIN: train, TEST: test } = labelsOfRole;
    const divided = groupsWhere((within) => within.has('test') && within.size > 1);
    const isRegression = [...labels.keys()].every(isNumeric);
    return [
      ...(train.size === 0 ? ['The split has no labelled images to train on.'] : []),
      ...(test.size === 0 ? ['The split has no labelled images to test on.'] : []),
      ...(train.size === 1 && !isRegression ? [`All images to train on have the label ${namesOf([...train])}.`] : []),
      ...(test.size === 1 && !isRegression ? [`All images to test on have the label ${namesOf([...test])}.`] : []),
      ...(divided.length === 0
        ? []
        : [`The split has images of the same group to train on and to test on: ${namesOf(divided)}.`]),
    ];
  };
  /** Folds are drawn. */
  const foldFaults = (): string[] => {
    if ([...labels.keys()].every(isNumeric)) {
      const groups = new Set([...groupsOfLabel.values()].flatMap((within) => [...within]));
      return groups.size < 2 ? ['All labelled images belong to one group.'] : [];
    }
    const single = [...groupsOfLabel].flatMap(([label, within]) => (within.size < 2 ? [label] : []));
    return single.length === 0
      ? []
      : [
          `Each label needs images of at least two groups, one to train on and one to test on; these labels have one group: ${namesOf(single.sort(compareCodePoints))}.`,
        ];
  };

  const counts: ContentCounts = {
    add: ({ label, group, split, relativePath }) => {
      imageCount += 1;
      if (split !== null) splits.set(split, (splits.get(split) ?? 0) + 1);
      if (group === null) {
        ungroupedImageCount += 1;
        firstUngrouped ??= relativePath;
      } else {
        const within = splitsOfGroup.get(group) ?? new Set();
        splitsOfGroup.set(group, within.add(split));
      }
      if (label === null) return;
      labels.set(label, (labels.get(label) ?? 0) + 1);
      labelsOfRole[split === 'test' ? 'TEST' : 'TRAIN'].add(label);
      const groups = groupsOfLabel.get(label) ?? new Set();
      groupsOfLabel.set(label, groups.size < 2 ? groups.add(group ?? relativePath) : groups);
    },
    get imageCount() {
      return imageCount;
    },
    get ungroupedImageCount() {
      return ungroupedImageCount;
    },
    get groupCount() {
      return splitsOfGroup.size;
    },
    labelCounts: () => inOrder(labels).map(([label, count]) => ({ label, count })),
    splitCounts: () => inOrder(splits).map(([split, count]) => ({ split, count })),
    addIssues: (issues) => {
      if (firstUngrouped !== undefined) issues.add('NO_GROUPS', firstUngrouped, { count: ungroupedImageCount });
      for (const group of groupsWhere((within) => within.size > 1)) issues.add('GROUP_ACROSS_SPLITS', group);
      for (const alike of lookAlikes(labels.keys()))
        issues.add('LABELS_LOOK_ALIKE', namesOf(alike), { count: alike.length });
      for (const alike of lookAlikes(splitsOfGroup.keys()))
        issues.add('GROUPS_LOOK_ALIKE', namesOf(alike), { count: alike.length });
      for (const label of listsAmong(labels)) issues.add('LABEL_LISTS', label);
    },
    evaluationFaults: () => {
      if (labels.size === 0) return ['No image has a label.'];
      if (labels.size === 1) return [`All images have the label ${namesOf([...labels.keys()])}.`];
      return splits.size > 0 ? splitFaults() : foldFaults();
    },
    losses: (previous, hasAllImages) => {
      const missing = previous.labelNames.filter((label) => !labels.has(label));
      const hadGroups = previous.ungroupedImageCount !== null && previous.ungroupedImageCount < previous.imageCount;
      const name = `Version ${previous.version}`;
      return [
        ...(missing.length === 0 ? [] : [`${name} had labels that are now missing: ${namesOf(missing)}.`]),
        ...(hadGroups && splitsOfGroup.size === 0
          ? [`${name} had ${previous.groupCount} groups, and now no group is known.`]
          : []),
        ...(hadGroups && splitsOfGroup.size > 0 && counts.groupCount < previous.groupCount / 2
          ? [`${name} had ${previous.groupCount} groups, and now there are ${counts.groupCount}.`]
          : []),
        ...(hasAllImages && imageCount < previous.imageCount / 2
          ? [`${name} had ${previous.imageCount} images, and now there are ${imageCount}.`]
          : []),
      ];
    },
  };
  return counts;
}

function namesOf(texts: readonly string[]): string {
  const named = texts.slice(0, NAMED_MAX).map((text) => JSON.stringify(text));
  return `${named.join(', ')}${texts.length > NAMED_MAX ? ` and ${texts.length - NAMED_MAX} more` : ''}`;
}

/** Labels that contain another label beside a semicolon, comma, vertical bar or plus sign. */
function listsAmong(labels: ReadonlyMap<string, number>): string[] {
  return [...labels.keys()].filter((label) => {
    const parts = label.split(/[;,|+]/).map((part) => part.trim());
    return parts.length > 1 && parts.some((part) => labels.has(part));
  });
}
