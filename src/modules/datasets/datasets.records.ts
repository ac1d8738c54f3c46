/** Datasets and their versions as the rest of the program sees them. */
import type {
  DatasetProvenance,
  DatasetVersionStatus,
  FactEvidence,
  ImageKind,
  TaskKind,
} from '../../generated/prisma/enums.ts';

export interface OrganRecord {
  /** UPPER_SNAKE, e.g. LYMPH_NODE. */
  readonly code: string;
  readonly name: string;
}

export interface StainRecord {
  /** UPPER_SNAKE, e.g. HE, MASSON_TRICHROME. */
  readonly code: string;
  readonly name: string;
}

/** Values that the source does not pair get rows of their own, with null for what is not known. */
export interface ResolutionRecord {
  /** Nominal power of the objective, e.g. 20. */
  readonly magnification: number | null;
  /** Objective times eyepiece, where that is what the source states. */
  readonly totalMagnification: number | null;
  /** um/px */
  readonly micronsPerPixel: number | null;
}

export interface CitationRecord {
  readonly authors: string | null;
  readonly title: string | null;
  readonly venue: string | null;
  readonly doi: string | null;
  readonly arxiv: string | null;
}

/** A part that the source counts apart, e.g. one project of TCGA. */
export interface SubcollectionRecord {
  readonly slug: string;
  readonly organ: string | null;
  readonly slideCount: number;
  readonly magnifications: readonly number[];
  readonly source: string;
}

/** How one field of a catalogue row is known. `field` is the field's name in the API. */
export interface FactSourceRecord {
  readonly field: string;
  readonly evidence: FactEvidence;
  readonly sourceUrls: readonly string[];
}

/** What is said of a dataset, without what the registry adds. */
export interface DatasetFacts {
  readonly name: string;
  readonly description: string | null;
  readonly synthetic: boolean;
  readonly imageKind: ImageKind;
  readonly imageCount: number | null;
  readonly slideCount: number | null;
  readonly imageSizeNote: string | null;
  readonly classNames: readonly string[];
  readonly tasks: readonly TaskKind[];
  readonly ihcMarkers: readonly string[];
  readonly licence: string | null;
  readonly publishedYear: number | null;
  readonly citation: CitationRecord | null;
  readonly homepageUrl: string | null;
  readonly notes: string | null;
  /** Slugs of the datasets whose slides this one is cut from. */
  readonly parentCollections: readonly string[];
  readonly organs: readonly OrganRecord[];
  readonly stains: readonly StainRecord[];
  readonly resolutions: readonly ResolutionRecord[];
}

export interface DatasetRecord extends DatasetFacts {
  readonly id: string;
  readonly slug: string;
  readonly provenance: DatasetProvenance;
  readonly provenanceNote: string | null;
  readonly paperRoles: readonly string[];
  readonly subcollections: readonly SubcollectionRecord[];
  readonly sourceUrls: readonly string[];
  readonly createdAt: Date;
  readonly updatedAt: Date;
  /** When a user last changed it; from then on seeding leaves it alone. */
  readonly editedAt: Date | null;
}

/** One row of prisma/catalog, ready for the database. */
export interface CatalogueDataset extends DatasetFacts {
  readonly slug: string;
  readonly provenance: DatasetProvenance;
  readonly provenanceNote: string | null;
  readonly paperRoles: readonly string[];
  readonly subcollections: readonly SubcollectionRecord[];
  readonly sourceUrls: readonly string[];
  readonly factSources: readonly FactSourceRecord[];
}

export interface LabelCountRecord {
  readonly label: string;
  readonly count: number;
}

export interface ImportIssueRecord {
  /** What is wrong, e.g. UNREADABLE, DUPLICATE. */
  readonly kind: string;
  readonly count: number;
  /** True where the images are in the version nevertheless. */
  readonly kept: boolean;
  /** What it is and what to do; null for a version that was sealed before every issue was listed. */
  readonly meaning: string | null;
  /** Paths, relative to the imported folder. */
  readonly examples: readonly string[];
  /** Where its entries lie in the CSV of all; null as above. */
  readonly entries: { readonly count: number; readonly firstByte: number; readonly byteSize: number } | null;
}

/** What an import says of one file. */
export interface ImportIssueEntryRecord {
  readonly kind: string;
  /** Relative to the imported folder; for issues of labels and groups their names. */
  readonly path: string;
  /** Patches of the file. */
  readonly count: number;
  readonly kept: boolean;
  readonly reason: string;
  /** The other file that it is about: what it is a duplicate of. */
  readonly relatedPath: string | null;
}

export interface DatasetVersionRecord {
  readonly id: string;
  readonly datasetId: string;
  /** 1 for the first. */
  readonly version: number;
  readonly status: DatasetVersionStatus;
  readonly digest: string | null;
  readonly manifestSha256: string | null;
  /** Null for a version that was sealed before images were hashed. */
  readonly imageHashesSha256: string | null;
  /** CSV of every single issue; null without issues, and for a version that was sealed before they were listed. */
  readonly issueListSha256: string | null;
  readonly patchSizePx: number | null;
  readonly imageCount: number;
  readonly byteSize: number;
  readonly labelNames: readonly string[];
  readonly labelCounts: readonly LabelCountRecord[];
  readonly groupCount: number;
  /** Images whose patient or slide is not known: each is a group of its own. */
  readonly ungroupedImageCount: number;
  readonly hasSplit: boolean;
  readonly issues: readonly ImportIssueRecord[];
  readonly importRunId: string | null;
  readonly createdAt: Date;
  readonly sealedAt: Date | null;
}

export interface ShardRecord {
  readonly sha256: string;
  readonly byteSize: number;
  readonly imageCount: number;
}

/** A version that a run may cite. Shards are in reading order. */
export interface SealedVersionRecord extends DatasetVersionRecord {
  readonly status: 'SEALED';
  readonly digest: string;
  readonly manifestSha256: string;
  readonly shards: readonly ShardRecord[];
}

/** What a dataset is cut from. */
export interface DatasetLineageRecord {
  readonly slug: string;
  /** Slugs of its parent collections, theirs included. */
  readonly collections: readonly string[];
}

export interface ThumbnailRecord {
  /** From 0. */
  readonly position: number;
  readonly sha256: string;
  readonly byteSize: number;
  readonly label: string | null;
}

/** How many datasets have one value. */
export interface FacetCountRecord {
  /** What the filter takes for it. */
  readonly value: string;
  /** What a person reads. */
  readonly name: string;
  readonly count: number;
}

export interface DatasetFacetsRecord {
  /** Under the whole filter. */
  readonly datasetCount: number;
  readonly organs: readonly FacetCountRecord[];
  readonly stains: readonly FacetCountRecord[];
  readonly imageKinds: readonly FacetCountRecord[];
  readonly tasks: readonly FacetCountRecord[];
  readonly licences: readonly FacetCountRecord[];
  readonly provenances: readonly FacetCountRecord[];
  readonly magnifications: readonly FacetCountRecord[];
  /** Datasets with a resolution of the bound or finer. */
  readonly micronsPerPixelBounds: readonly FacetCountRecord[];
}
