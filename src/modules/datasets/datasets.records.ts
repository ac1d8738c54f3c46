/** Types of datasets and their versions that other modules use. */
import type {
  DatasetProvenance,
  DatasetDigestRule,
  DatasetVersionStatus,
  FactEvidence,
  ImageKind,
  SlideStatus,
  TaskKind,
} from '../../generated/prisma/enums.ts';
import type { MicronsPerPixelSource } from '../../protocol/slide-facts.ts';

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

/** Values that the source does not pair get separate rows, with null for the unknown one. */
export interface ResolutionRecord {
  /** Nominal power of the objective, e.g. 20. */
  readonly magnification: number | null;
  /** Objective times eyepiece, if the source states it so. */
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

/** A part that the source counts separately, e.g. one project of TCGA. */
export interface SubcollectionRecord {
  readonly slug: string;
  readonly organ: string | null;
  readonly slideCount: number;
  readonly magnifications: readonly number[];
  readonly source: string;
}

/** The evidence for one field of a catalogue row. `field` is the field's name in the API. */
export interface FactSourceRecord {
  readonly field: string;
  readonly evidence: FactEvidence;
  readonly sourceUrls: readonly string[];
}

/** The stated facts of a dataset, without the fields that the registry adds. */
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
  /** Slugs of the datasets whose slides this dataset was cut from. */
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
  /** When a user last changed it; seeding does not change it after that. */
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
  /** The kind of the issue, e.g. UNREADABLE, DUPLICATE. */
  readonly kind: string;
  readonly count: number;
  /** True if the images are included in the version despite the issue. */
  readonly kept: boolean;
  /** An explanation and what to do; null for a version that was sealed before every issue was listed. */
  readonly meaning: string | null;
  /** Paths, relative to the imported folder. */
  readonly examples: readonly string[];
  /** The byte range of its entries in the CSV of all issues; null as above. */
  readonly entries: { readonly count: number; readonly firstByte: number; readonly byteSize: number } | null;
}

/** One issue that an import found in one file. */
export interface ImportIssueEntryRecord {
  readonly kind: string;
  /** A path relative to the imported folder; for issues of labels and groups, the name of the label or group. */
  readonly path: string;
  /** Number of patches that the issue concerns. */
  readonly count: number;
  readonly kept: boolean;
  readonly reason: string;
  /** The other file of the issue: the one that this file duplicates. */
  readonly relatedPath: string | null;
}

export interface DatasetVersionRecord {
  readonly id: string;
  readonly datasetId: string;
  /** 1 for the first. */
  readonly version: number;
  readonly status: DatasetVersionStatus;
  readonly digest: string | null;
  readonly digestRule: DatasetDigestRule;
  readonly manifestSha256: string | null;
  /** Under the rule MANIFEST_FILE; null where images were not hashed. Under PIXELS the manifest has the hashes. */
  readonly imageHashesSha256: string | null;
  /** The CSV of every issue; null without issues, and for a version that was sealed before they were listed. */
  readonly issueListSha256: string | null;
  readonly patchSizePx: number | null;
  readonly imageCount: number;
  readonly byteSize: number;
  readonly labelNames: readonly string[];
  readonly labelCounts: readonly LabelCountRecord[];
  /** Number of known groups. */
  readonly groupCount: number;
  /**
   * Number of images whose patient or slide is unknown. Null in a draft, and in a version that was sealed before
   * unknown groups were null, until its manifest is counted.
   */
  readonly ungroupedImageCount: number | null;
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

/** A version that a run may use. Shards are in reading order. */
export interface SealedVersionRecord extends DatasetVersionRecord {
  readonly status: 'SEALED';
  readonly digest: string;
  readonly manifestSha256: string;
  readonly shards: readonly ShardRecord[];
}

/** The collections that a dataset was cut from. */
export interface DatasetLineageRecord {
  readonly slug: string;
  /** Slugs of its parent collections and of their parents. */
  readonly collections: readonly string[];
}

export interface ThumbnailRecord {
  /** From 0. */
  readonly position: number;
  readonly sha256: string;
  readonly byteSize: number;
  readonly label: string | null;
}

export interface SlideLevelRecord {
  /** In pixels. */
  readonly width: number;
  readonly height: number;
  /** Pixels of level 0 for one pixel of this level; 1 for level 0. */
  readonly downsample: number;
}

/** Microns per pixel of level 0. */
export interface SlideResolutionRecord {
  readonly x: number;
  readonly y: number;
  readonly source: MicronsPerPixelSource;
  /** The property that states them; null if they were given. */
  readonly property: string | null;
}

/** A slide of the folder from which a version was imported. */
export interface SlideRecord {
  readonly versionId: string;
  /** From 0, in the order of the paths. */
  readonly position: number;
  /** Relative to the imported folder. */
  readonly path: string;
  readonly status: SlideStatus;
  readonly issueKind: string | null;
  readonly reason: string | null;
  /** sha256. */
  readonly fileDigest: string | null;
  readonly fileByteSize: number | null;
  readonly label: string | null;
  /** The patient if known, otherwise the slide. */
  readonly group: string | null;
  readonly split: string | null;
  /** Null, and no levels, if the slide cannot be opened. */
  readonly vendor: string | null;
  /** From the finest. */
  readonly levels: readonly SlideLevelRecord[];
  readonly micronsPerPixel: SlideResolutionRecord | null;
  readonly objective: number | null;
  /** Images of the version that were cut from it. */
  readonly patchCount: number;
  /** Shares of the slide, 0..1; null, as both pictures, if tissue was not looked for. */
  readonly tissueFraction: number | null;
  readonly penFraction: number | null;
  readonly thumbnailSha256: string | null;
  readonly tissueMaskSha256: string | null;
}

/** The patches that a version has of a slide, in its order. */
export interface SlidePatchesRecord {
  /** Of the first of them in the manifest of the version, from 0; the others follow. */
  readonly firstRow: number;
  /** Of each patch, in pixels of level 0. */
  readonly width: number;
  readonly height: number;
  /** `[N]`: their top left corners, in pixels of level 0. */
  readonly x: readonly number[];
  readonly y: readonly number[];
  /** Of these patches, each once. */
  readonly labelNames: readonly string[];
  /** `[N]`: the place of the label of each patch among the names; null for a patch without a label. */
  readonly labels: readonly (number | null)[];
}

/** The number of datasets with one value. */
export interface FacetCountRecord {
  /** The value that the filter accepts. */
  readonly value: string;
  /** The displayed label. */
  readonly name: string;
  readonly count: number;
}

export interface DatasetFacetsRecord {
  /** Number of datasets that match the whole filter. */
  readonly datasetCount: number;
  readonly organs: readonly FacetCountRecord[];
  readonly stains: readonly FacetCountRecord[];
  readonly imageKinds: readonly FacetCountRecord[];
  readonly tasks: readonly FacetCountRecord[];
  readonly licences: readonly FacetCountRecord[];
  readonly provenances: readonly FacetCountRecord[];
  readonly magnifications: readonly FacetCountRecord[];
  /** Number of datasets with a resolution at the bound or finer. */
  readonly micronsPerPixelBounds: readonly FacetCountRecord[];
}
