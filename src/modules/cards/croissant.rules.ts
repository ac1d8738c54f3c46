/**
 * Dataset cards: Croissant 1.1 JSON-LD (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html). Pure;
 * unknown facts are left out.
 */
import type { DatasetRecord, SealedVersionRecord } from '../datasets/index.ts';

/** Appendix 1 of the specification. */
const CONTEXT = {
  '@language': 'en',
  '@vocab': 'https://schema.org/',
  sc: 'https://schema.org/',
  cr: 'http://mlcommons.org/croissant/',
  rai: 'http://mlcommons.org/croissant/RAI/',
  dct: 'http://purl.org/dc/terms/',
  annotation: 'cr:annotation',
  arrayShape: 'cr:arrayShape',
  citeAs: 'cr:citeAs',
  column: 'cr:column',
  conformsTo: 'dct:conformsTo',
  containedIn: 'cr:containedIn',
  data: { '@id': 'cr:data', '@type': '@json' },
  dataType: { '@id': 'cr:dataType', '@type': '@vocab' },
  equivalentProperty: 'cr:equivalentProperty',
  examples: { '@id': 'cr:examples', '@type': '@json' },
  excludes: 'cr:excludes',
  extract: 'cr:extract',
  field: 'cr:field',
  fileProperty: 'cr:fileProperty',
  fileObject: 'cr:fileObject',
  fileSet: 'cr:fileSet',
  format: 'cr:format',
  includes: 'cr:includes',
  isArray: 'cr:isArray',
  isLiveDataset: 'cr:isLiveDataset',
  jsonPath: 'cr:jsonPath',
  key: 'cr:key',
  md5: 'cr:md5',
  parentField: 'cr:parentField',
  path: 'cr:path',
  readLines: 'cr:readLines',
  recordSet: 'cr:recordSet',
  references: 'cr:references',
  regex: 'cr:regex',
  repeated: 'cr:repeated',
  replace: 'cr:replace',
  samplingRate: 'cr:samplingRate',
  sdVersion: 'cr:sdVersion',
  separator: 'cr:separator',
  source: 'cr:source',
  subField: 'cr:subField',
  transform: 'cr:transform',
  unArchive: 'cr:unArchive',
  value: 'cr:value',
};

export const CROISSANT_MEDIA_TYPE = 'application/ld+json; profile="http://mlcommons.org/croissant/1.1"';

/** The licences whose names are SPDX identifiers. */
const SPDX = /^(CC0-1\.0|CC-BY(-NC)?(-ND|-SA)?-\d\.\d|Apache-2\.0|MIT|BSD-[23]-Clause|ODbL-1\.0|PDDL-1\.0)$/;

/** The name and type of the manifest in the card, and the names of its columns for two of its facts. */
const MANIFESTS = {
  // The type by which Croissant's loaders know Parquet.
  PIXELS: { id: 'manifest.parquet', encodingFormat: 'application/x-parquet', digest: 'pixelDigest' },
  MANIFEST_FILE: { id: 'manifest.jsonl', encodingFormat: 'application/jsonlines', digest: 'sha256' },
} as const satisfies Readonly<Record<SealedVersionRecord['digestRule'], object>>;
const SHARDS = 'shards';
/** Media types of stored images: an import keeps the original bytes or converts to lossless PNG. */
const IMAGE_FORMATS = { 'image/jpeg': '*.jpg', 'image/png': '*.png', 'image/webp': '*.webp' };

export interface CroissantFacts {
  readonly dataset: DatasetRecord;
  /** Undefined if the registry holds no images: the card then describes the dataset without files. */
  readonly version: SealedVersionRecord | undefined;
  /** The base URL of this registry, without a trailing slash. */
  readonly serverUrl: string;
}

export function croissantOf({ dataset, version, serverUrl }: CroissantFacts): Record<string, unknown> {
  const page = `${serverUrl}/datasets/${dataset.slug}`;
  const cite = citationOf(dataset);
  const { licence, citation } = dataset;
  return {
    '@context': CONTEXT,
    '@type': 'sc:Dataset',
    conformsTo: 'http://mlcommons.org/croissant/1.1',
    name: dataset.name,
    description: descriptionOf(dataset),
    ...present('alternateName', dataset.slug === dataset.name ? null : dataset.slug),
    ...present(
      'license',
      licence !== null && SPDX.test(licence)
        ? `https://spdx.org/licenses/${licence}`
        : licence === null
          ? null
          : { '@type': 'CreativeWork', name: licence },
    ),
    url: page,
    ...present('sameAs', dataset.homepageUrl),
    ...present(
      'creator',
      citation?.authors == null ? null : citation.authors.split(/,\s*/).map((name) => ({ '@type': 'Person', name })),
    ),
    ...present(
      'datePublished',
      dataset.publishedYear === null
        ? dataset.provenance === 'LOCAL' && version?.sealedAt != null
          ? version.sealedAt.toISOString()
          : null
        : String(dataset.publishedYear),
    ),
    ...present('citeAs', cite),
    keywords: keywordsOf(dataset),
    isLiveDataset: false,
    ...(version === undefined ? {} : filesOf(version, serverUrl)),
  };
}

function present(name: string, value: unknown): Record<string, unknown> {
  return value === null || value === undefined ? {} : { [name]: value };
}

/** The dataset's own description, or a sentence composed of the known facts. */
function descriptionOf(dataset: DatasetRecord): string {
  const warning = dataset.synthetic ? 'SYNTHETIC: drawn by a program; it is not tissue. ' : '';
  if (dataset.description !== null) return warning + dataset.description;
  const stains = dataset.stains.map((stain) => stain.name).join(', ');
  const organs = dataset.organs.map((organ) => organ.name).join(', ');
  return `${warning}Histopathology images (${dataset.imageKind})${organs === '' ? '' : ` of ${organs}`}${stains === '' ? '' : `, stained with ${stains}`}.`;
}

function keywordsOf(dataset: DatasetRecord): string[] {
  return [
    'histopathology',
    ...dataset.organs.map((organ) => organ.name),
    ...dataset.stains.map((stain) => stain.name),
    dataset.imageKind,
    ...dataset.tasks.map((task) => task.toLowerCase()),
    ...dataset.resolutions.flatMap(({ micronsPerPixel }) =>
      micronsPerPixel === null ? [] : [`${micronsPerPixel} um/px`],
    ),
    ...(dataset.synthetic ? ['SYNTHETIC'] : []),
  ];
}

function citationOf({ citation }: DatasetRecord): string | null {
  if (citation === null) return null;
  const { authors, title, venue, doi, arxiv } = citation;
  const parts = [
    authors,
    title,
    venue,
    doi === null ? null : `https://doi.org/${doi}`,
    arxiv === null ? null : `arXiv:${arxiv}`,
  ].filter((part) => part !== null);
  return parts.length === 0 ? null : parts.join('. ');
}

function filesOf(version: SealedVersionRecord, serverUrl: string): Record<string, unknown> {
  const file = (id: string, sha256: string, encodingFormat: string) => ({
    '@type': 'cr:FileObject',
    '@id': id,
    name: id,
    contentUrl: `${serverUrl}/artifacts/${sha256}`,
    encodingFormat,
    sha256,
  });
  const manifest = MANIFESTS[version.digestRule];
  const column = (name: string, dataType: string | readonly string[], description: string) =>
    columnOf(manifest.id, name, dataType, description);
  const shards = version.shards.map(({ sha256, byteSize }, index) => ({
    ...file(`${SHARDS}/${String(index).padStart(5, '0')}.tar`, sha256, 'application/x-tar'),
    contentSize: `${byteSize} B`,
  }));
  return {
    version: `${version.version}.0.0`,
    ...present('dateModified', version.sealedAt?.toISOString()),
    distribution: [
      file(manifest.id, version.manifestSha256, manifest.encodingFormat),
      ...shards,
      {
        '@type': 'cr:FileSet',
        '@id': 'image-files',
        name: 'image-files',
        containedIn: shards.map((shard) => ({ '@id': shard['@id'] })),
        encodingFormat: Object.keys(IMAGE_FORMATS),
        includes: Object.values(IMAGE_FORMATS),
      },
    ],
    recordSet: [
      {
        '@type': 'cr:RecordSet',
        '@id': 'manifest',
        name: 'manifest',
        description: `Known facts about each of the ${version.imageCount} images; digest ${version.digest}.`,
        key: { '@id': 'manifest/key' },
        field: [
          column('key', 'sc:Text', 'Name of the image within the version.'),
          column(
            manifest.digest,
            'sc:Text',
            version.digestRule === 'PIXELS'
              ? 'sha256 of the decoded pixels, 32 bytes.'
              : 'sha256 of the encoded bytes.',
          ),
          column('label', ['sc:Text', 'cr:Label'], 'Null if the image has none.'),
          column('group', 'sc:Text', 'Patient or slide, null if unknown; a split must not divide a group.'),
          column('split', ['sc:Text', 'cr:Split'], 'Null if the dataset has none.'),
          column('width', 'sc:Integer', 'In pixels.'),
          column('height', 'sc:Integer', 'In pixels.'),
        ],
      },
      {
        '@type': 'cr:RecordSet',
        '@id': 'images',
        name: 'images',
        key: { '@id': 'images/key' },
        field: [
          {
            '@type': 'cr:Field',
            '@id': 'images/key',
            name: 'key',
            dataType: 'sc:Text',
            source: {
              fileSet: { '@id': 'image-files' },
              extract: { fileProperty: 'filename' },
              transform: { regex: '^(.*)\\.[a-z]+$' },
            },
            references: { '@id': 'manifest/key' },
          },
          {
            '@type': 'cr:Field',
            '@id': 'images/content',
            name: 'content',
            dataType: 'sc:ImageObject',
            source: { fileSet: { '@id': 'image-files' }, extract: { fileProperty: 'content' } },
          },
        ],
      },
    ],
  };
}

function columnOf(
  manifestId: string,
  name: string,
  dataType: string | readonly string[],
  description: string,
): Record<string, unknown> {
  return {
    '@type': 'cr:Field',
    '@id': `manifest/${name}`,
    name,
    description,
    dataType,
    source: { fileObject: { '@id': manifestId }, extract: { column: name } },
  };
}
