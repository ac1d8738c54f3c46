/** The report of an import: the result of a dry run, and the explanation of a refusal. */
import { DomainError } from '../../src/errors.ts';
import type { ContentCounts, PreviousVersion } from './content.ts';
import type { ImportIssue, IssueSink } from './issues.ts';
import { compareCodePoints, firstOfEachLabel, type SourceImage } from './listing.ts';
import type { ImportPlan } from './plan-import.ts';
import { IMPORT_QUESTIONS, type ImportQuestion, type ImportReportRecord } from '../../src/protocol/import.ts';

/** The number of folders in a report: the first ones by name. */
const ASSIGNMENTS_MAX = 500;

/** Adds the issues that only all images together show, and what an evaluation would lack. */
export function addContentIssues(
  issues: IssueSink,
  counts: ContentCounts,
  facts: {
    readonly isLabelled: boolean;
    readonly previous: PreviousVersion | null;
    readonly hasAllImages: boolean;
  },
): void {
  counts.addIssues(issues);
  if (facts.isLabelled) for (const fault of counts.evaluationFaults()) issues.add('NOT_EVALUABLE', fault);
  if (facts.previous === null) return;
  for (const loss of counts.losses(facts.previous, facts.hasAllImages)) issues.add('FEWER_THAN_BEFORE', loss);
}

export function reportOf(
  plan: ImportPlan,
  counts: ContentCounts,
  issues: readonly ImportIssue[],
  facts: Pick<ImportReportRecord, 'isDryRun' | 'imagesChecked' | 'issueList'> & {
    readonly accept: readonly ImportQuestion[];
  },
): ImportReportRecord {
  const assignments = assignmentsOf(firstOfEachLabel(plan.sources));
  let fileCount = 0;
  let before: string | undefined;
  for (const { relativePath } of plan.sources) {
    if (relativePath !== before) fileCount += 1;
    before = relativePath;
  }
  return {
    isDryRun: facts.isDryRun,
    imagesChecked: facts.imagesChecked,
    fileCount,
    imageCount: counts.imageCount,
    groupCount: counts.groupCount,
    ungroupedImageCount: counts.ungroupedImageCount,
    labelCounts: counts.labelCounts(),
    splitCounts: counts.splitCounts(),
    assignments: assignments.slice(0, ASSIGNMENTS_MAX),
    assignmentCount: assignments.length,
    passedOver: plan.passedOver.map(({ reason, count, examples }) => ({ reason, count, examples })),
    notes: plan.notes,
    groupSuggestions: plan.groupSuggestions,
    issues: issues.map(({ kind, count, kept, meaning, examples, entries }) => ({
      ...{ kind, count, kept, meaning, examples, entries },
    })),
    issueList: facts.issueList,
    questions: questionsOf(issues, facts.accept),
  };
}

/** Kinds of issues that the user must accept before anything is sealed. */
export function questionsOf(issues: readonly ImportIssue[], accept: readonly ImportQuestion[]): ImportQuestion[] {
  const found = new Set<string>(issues.map(({ kind }) => kind));
  return IMPORT_QUESTIONS.filter((question) => found.has(question) && !accept.includes(question));
}

/** The refusal of an import for what its folder seems to get wrong: IMPORT_NEEDS_ANSWER. */
export function needsAnswer(found: readonly ImportIssue[], accept: readonly ImportQuestion[]): DomainError {
  const questions = questionsOf(found, accept);
  const asked = found.filter(({ kind }) => questions.some((question) => question === kind));
  return new DomainError({
    code: 'IMPORT_NEEDS_ANSWER',
    message: `Nothing was sealed, because the folder seems to contain mistakes. ${asked
      .map(({ kind, meaning, examples }) => `${kind}: ${meaning} Found: ${examples.join('; ')}`)
      .join(' ')}`,
    field: 'input.accept',
    hint: `Correct them, or import again with accept: [${questions.join(', ')}] (--accept of the command line) if they are intended. A dry run shows how every folder would be imported.`,
  });
}

/** The refusal of an import of which no image is left: IMPORT_NOTHING_READABLE. */
export function nothingReadable(found: readonly ImportIssue[]): DomainError {
  const [main] = [...found].sort((a, b) => b.count - a.count);
  const hint =
    main === undefined
      ? 'Put PNG, JPEG, TIFF, BMP or WebP files there.'
      : main.kind === 'NO_LABEL'
        ? 'Put images into one folder for each label, or use layout FLAT.'
        : `Found: ${found.map((issue) => `${issue.count} ${issue.kind}`).join(', ')}; for instance ${JSON.stringify(main.examples[0])}.`;
  return new DomainError({
    code: 'IMPORT_NOTHING_READABLE',
    message: 'No image in the folder can be used.',
    field: 'input.path',
    hint,
  });
}

/** For each folder, what its files become; a slide of several labels counts for each of them. */
function assignmentsOf(sources: Iterable<SourceImage>): ImportReportRecord['assignments'] {
  const rows = new Map<string, { folder: string; label: string | null; split: string | null; fileCount: number }>();
  for (const { relativePath, label, split } of sources) {
    const folder = relativePath.slice(0, Math.max(0, relativePath.lastIndexOf('/')));
    const key = JSON.stringify([folder, label, split]);
    const row = rows.get(key) ?? { folder, label, split, fileCount: 0 };
    row.fileCount += 1;
    rows.set(key, row);
  }
  return [...rows.values()].sort((a, b) => compareCodePoints(a.folder, b.folder));
}
