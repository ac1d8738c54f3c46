/** Merging of new facts into a dataset's existing facts. Pure. */
import { FACT_FIELDS } from './catalogue.rules.ts';
import type { DatasetFacts } from './datasets.records.ts';

type FactsPatch = { readonly [Field in keyof DatasetFacts]?: DatasetFacts[Field] | undefined };

const UNKNOWN: Omit<DatasetFacts, 'name' | 'imageKind'> = {
  description: null,
  synthetic: false,
  imageCount: null,
  slideCount: null,
  imageSizeNote: null,
  classNames: [],
  tasks: [],
  ihcMarkers: [],
  licence: null,
  publishedYear: null,
  citation: null,
  homepageUrl: null,
  notes: null,
  parentCollections: [],
  organs: [],
  stains: [],
  resolutions: [],
};

/**
 * The current facts, overridden by those of the patch. A field that the patch omits keeps its value, or is unknown if
 * it had none.
 */
export function mergeFacts(current: DatasetFacts, patch: FactsPatch): DatasetFacts;
export function mergeFacts(
  current: undefined,
  patch: FactsPatch & Pick<DatasetFacts, 'name' | 'imageKind'>,
): DatasetFacts;
export function mergeFacts(current: DatasetFacts | undefined, patch: FactsPatch): DatasetFacts {
  const before = current ?? { ...UNKNOWN, name: patch.name ?? '', imageKind: patch.imageKind ?? 'PATCH' };
  const pick = <Field extends keyof DatasetFacts>(field: Field): DatasetFacts[Field] => {
    const value = patch[field];
    return value === undefined ? before[field] : value;
  };
  return {
    name: pick('name'),
    description: pick('description'),
    synthetic: pick('synthetic'),
    imageKind: pick('imageKind'),
    imageCount: pick('imageCount'),
    slideCount: pick('slideCount'),
    imageSizeNote: pick('imageSizeNote'),
    classNames: pick('classNames'),
    tasks: pick('tasks'),
    ihcMarkers: pick('ihcMarkers'),
    licence: pick('licence'),
    publishedYear: pick('publishedYear'),
    citation: pick('citation'),
    homepageUrl: pick('homepageUrl'),
    notes: pick('notes'),
    parentCollections: pick('parentCollections'),
    organs: pick('organs'),
    stains: pick('stains'),
    resolutions: pick('resolutions'),
  };
}

/** The fields of FACT_FIELDS whose value changed: their evidence no longer applies. */
export function changedFactFields(before: DatasetFacts, after: DatasetFacts): string[] {
  return Object.values(FACT_FIELDS).filter(
    (field) => JSON.stringify(valueOf(before, field)) !== JSON.stringify(valueOf(after, field)),
  );
}

/** A canonical form: equal values give the same text, independent of the order of their keys. */
function valueOf(facts: DatasetFacts, field: (typeof FACT_FIELDS)[keyof typeof FACT_FIELDS]): unknown {
  switch (field) {
    case 'resolutions.magnification':
      return facts.resolutions.map((each) => [each.magnification, each.totalMagnification]);
    case 'resolutions.micronsPerPixel':
      return facts.resolutions.map((each) => each.micronsPerPixel);
    case 'organs':
    case 'stains':
      return facts[field].map((each) => each.code).sort();
    case 'citation': {
      const { citation } = facts;
      return citation === null
        ? null
        : [citation.authors, citation.title, citation.venue, citation.doi, citation.arxiv];
    }
    default:
      return facts[field];
  }
}
