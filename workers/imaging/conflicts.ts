/** Identical pixels under two labels, splits or groups, of which at most one is correct. Pure. */
import type { SourceImage } from './listing.ts';

export type ConflictKind = 'LABEL_CONFLICT' | 'SPLIT_CONFLICT' | 'GROUP_CONFLICT';

export interface Conflict {
  readonly kind: ConflictKind;
  readonly first: SourceImage;
  readonly second: SourceImage;
  /** A sentence that names both images. */
  reasonFor(image: SourceImage, other: SourceImage): string;
}

/** By the path of the image. */
export interface Conflicts {
  readonly size: number;
  get(name: string): Conflict | undefined;
  add(name: string, conflict: Conflict): void;
}

/** The gravest first: an image under two labels is often in two splits too. */
const ASPECTS = [
  { kind: 'LABEL_CONFLICT', noun: 'label', of: ({ label }: SourceImage) => label },
  { kind: 'SPLIT_CONFLICT', noun: 'split', of: ({ split }: SourceImage) => split },
  { kind: 'GROUP_CONFLICT', noun: 'group', of: ({ group }: SourceImage) => group },
] as const;

/**
 * The property in which two images with identical pixels differ; undefined for plain copies. An unknown value never
 * conflicts.
 */
export function conflictBetween(first: SourceImage, second: SourceImage): Conflict | undefined {
  const aspect = ASPECTS.find(({ of }) => of(first) !== null && of(second) !== null && of(first) !== of(second));
  if (aspect === undefined) return undefined;
  const { kind, noun, of } = aspect;
  return {
    kind,
    first,
    second,
    reasonFor: (image, other) =>
      `It has the same pixels as ${JSON.stringify(other.relativePath)}: ${noun} ${JSON.stringify(of(image))} here, ${JSON.stringify(of(other))} there.`,
  };
}

export function createConflicts(): Conflicts {
  const conflicts = new Map<string, Conflict>();
  const severityOf = ({ kind }: Conflict): number => ASPECTS.findIndex((aspect) => aspect.kind === kind);
  return {
    get size() {
      return conflicts.size;
    },
    get: (name) => conflicts.get(name),
    add: (name, conflict) => {
      const known = conflicts.get(name);
      if (known === undefined || severityOf(conflict) < severityOf(known)) conflicts.set(name, conflict);
    },
  };
}
