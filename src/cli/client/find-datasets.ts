/** `paraffin datasets ls` and `show`: find datasets, and show all facts of one. */
import { listOf, namesOf, numberFrom, oneOf, texts, wholeNumberFrom } from '../command.ts';
import { formatByteSize, formatGroups, table } from '../terminal.ts';
import { clientCommand, connect } from './connection.ts';
import { IMAGE_KINDS, TASKS } from './dataset-choices.ts';
import { graphql, type VariablesOf } from './graphql.ts';
import { facts, paint, paintStatus, printNote, show } from './output.ts';
import { idOrSlug, noDataset } from './references.ts';

const LIST = graphql(`
  query ListDatasets($filter: DatasetFilter, $first: Int, $after: String) {
    datasets(filter: $filter, first: $first, after: $after) {
      totalCount
      pageInfo {
        hasNextPage
        endCursor
      }
      nodes {
        id
        slug
        name
        provenance
        imageKind
        imageCount
        licence
        synthetic
        organs {
          code
          name
        }
        stains {
          code
          name
        }
        resolutions {
          magnification
          micronsPerPixel
        }
        latestVersion {
          version
          imageCount
        }
      }
    }
  }
`);

type DatasetFilter = NonNullable<VariablesOf<typeof LIST>['filter']>;

const SHOW = graphql(`
  query ShowDataset($id: ID, $slug: String) {
    dataset(id: $id, slug: $slug) {
      id
      slug
      name
      description
      provenance
      provenanceNote
      synthetic
      imageKind
      imageCount
      slideCount
      imageSizeNote
      classNames
      tasks
      licence
      publishedYear
      homepageUrl
      parentCollections
      organs {
        code
        name
      }
      stains {
        code
        name
      }
      resolutions {
        magnification
        totalMagnification
        micronsPerPixel
      }
      citation {
        title
        authors
        venue
        doi
        arxiv
      }
      factSources {
        field
        evidence
        sourceUrls
      }
      versions(first: 50) {
        nodes {
          id
          version
          status
          digest
          imageCount
          byteSize
          groupCount
          ungroupedImageCount
          createdAt
          labelCounts {
            label
            count
          }
          issues {
            kind
            count
            kept
            examples
          }
        }
      }
    }
  }
`);

const PROVENANCES: Readonly<Record<NonNullable<DatasetFilter['provenances']>[number], true>> = {
  PAPER_TABLE: true,
  PAPER_TEXT: true,
  OTHER_SOURCE: true,
  CANDIDATE: true,
  LOCAL: true,
};

/** Limits of names and of the licence's length in a line of the list; "show" prints them completely. */
const NAMES_SHOWN = 3;

const LICENCE_SHOWN = 24;

function firstFew(items: readonly { readonly code: string }[]): string {
  const names = items.slice(0, NAMES_SHOWN).map((each) => each.code.toLowerCase());
  return [...names, ...(items.length > NAMES_SHOWN ? [`+${items.length - NAMES_SHOWN}`] : [])].join(' ');
}

/** The range of the known values. */
function span(values: readonly (number | null)[], unit: string): string {
  const known = values.flatMap((value) => value ?? []);
  if (known.length === 0) return '';
  const [least, greatest] = [Math.min(...known), Math.max(...known)];
  return least === greatest ? `${least}${unit}` : `${least}-${greatest}${unit}`;
}

function cut(text: string): string {
  return text.length <= LICENCE_SHOWN ? text : `${text.slice(0, LICENCE_SHOWN - 1)}…`;
}

export const listCommand = clientCommand('ls', {
  summary: 'find datasets',
  details:
    'Lists datasets. An option with several values (repeated or separated by commas) matches any of them; all given options must match.',
  examples: [
    'datasets ls --organ breast --stain he --microns-per-pixel-max 0.5',
    'datasets ls --search "nuclei segm" --task segmentation',
    'datasets ls --with-images --quiet',
  ],
})
  .option('-s, --search <words>', 'words, "phrases", or, -not; the last word may be incomplete')
  .option('--organ <organs>', 'codes or names', texts)
  .option('--stain <stains>', 'codes or names, e.g. he', texts)
  .option('--kind <kinds>', namesOf(IMAGE_KINDS).join(', '), listOf(oneOf(IMAGE_KINDS)))
  .option('--task <tasks>', namesOf(TASKS).join(', '), listOf(oneOf(TASKS)))
  .option('--provenance <kinds>', namesOf(PROVENANCES).join(', '), listOf(oneOf(PROVENANCES)))
  .option('--licence <names>', 'exact text; UNKNOWN for datasets without a known licence', texts)
  .option('--magnification <power>', 'magnification of the objective', numberFrom(0))
  .option('--microns-per-pixel-max <um>', 'at most this resolution (this fine or finer)', numberFrom(0))
  .option('--with-images', 'only datasets with a sealed version')
  .option('-n, --limit <count>', 'show at most this number', wholeNumberFrom(1), 200)
  .action(
    async ({
      search,
      organ,
      stain,
      kind,
      task,
      provenance,
      licence,
      magnification,
      micronsPerPixelMax,
      withImages,
      limit,
      ...options
    }) => {
      const registry = await connect(options);
      const filter: DatasetFilter = {
        ...(search === undefined ? {} : { search }),
        ...(organ === undefined ? {} : { organs: [...organ] }),
        ...(stain === undefined ? {} : { stains: [...stain] }),
        ...(kind === undefined ? {} : { imageKinds: [...kind] }),
        ...(task === undefined ? {} : { tasks: [...task] }),
        ...(provenance === undefined ? {} : { provenances: [...provenance] }),
        ...(licence === undefined ? {} : { licences: [...licence] }),
        ...(magnification === undefined ? {} : { magnification: { min: magnification, max: magnification } }),
        ...(micronsPerPixelMax === undefined ? {} : { micronsPerPixel: { max: micronsPerPixelMax } }),
        ...(withImages === undefined ? {} : { hasVersions: true }),
      };
      const { datasets } = await registry.ask(LIST, { filter, first: Math.min(limit, 200) });
      const rows = datasets.nodes.map((dataset) => [
        dataset.slug,
        firstFew(dataset.organs),
        firstFew(dataset.stains),
        dataset.imageKind.toLowerCase(),
        [
          span(
            dataset.resolutions.map((each) => each.magnification),
            'x',
          ),
          span(
            dataset.resolutions.map((each) => each.micronsPerPixel),
            ' um',
          ),
        ]
          .filter((part) => part !== '')
          .join(' '),
        cut(dataset.licence ?? ''),
        dataset.latestVersion === null ? '' : `v${dataset.latestVersion.version}: ${dataset.latestVersion.imageCount}`,
      ]);
      show(options, {
        data: datasets.nodes,
        names: datasets.nodes.map((dataset) => dataset.slug),
        text:
          rows.length === 0
            ? 'No dataset matches.'
            : table(['slug', 'organs', 'stains', 'kind', 'resolution', 'licence', 'images here'], rows),
      });
      if (datasets.totalCount > datasets.nodes.length)
        printNote(options, `${datasets.nodes.length} of ${datasets.totalCount}; --limit shows more.`);
    },
  );

export const showCommand = clientCommand('show', {
  summary: 'show one dataset: facts with their sources, and versions',
  examples: ['datasets show bach', 'datasets show bach --json'],
})
  .argument('<dataset>', 'slug or id')
  .action(async (reference, options) => {
    const registry = await connect(options);
    const { dataset } = await registry.ask(SHOW, idOrSlug(reference));
    if (dataset === null) throw noDataset(reference);
    const { citation, versions } = dataset;
    const evidence = dataset.factSources.map(
      ({ field, evidence: kind, sourceUrls }) => `  ${field}: ${kind} ${paint('dim', sourceUrls.join(' '))}`,
    );
    const sealed = versions.nodes.map(({ id, version, status, byteSize, digest, labelCounts, issues, ...counts }) =>
      [
        `  ${paint('bold', `version ${version}`)}  ${paintStatus(status)}  ${counts.imageCount} images, ${formatGroups(counts)}, ${formatByteSize(byteSize)}  ${paint('dim', id)}`,
        ...(digest === null ? [] : [`    digest ${digest}`]),
        ...(labelCounts.length === 0
          ? []
          : [`    labels: ${labelCounts.map(({ label, count }) => `${label} ${count}`).join(', ')}`]),
        ...issues.map(
          ({ kind, count, kept, examples }) =>
            `    ${kind}: ${count}${kept ? ' (kept)' : ''}, e.g. ${examples.slice(0, 2).join(', ')}`,
        ),
      ].join('\n'),
    );
    const about = facts([
      ['slug', dataset.slug],
      ['id', dataset.id],
      ['organs', dataset.organs.map((each) => each.name).join(', ')],
      ['stains', dataset.stains.map((each) => each.name).join(', ')],
      ['kind', dataset.imageKind.toLowerCase()],
      [
        'resolution',
        dataset.resolutions
          .map(({ magnification, micronsPerPixel }) =>
            [
              ...(magnification === null ? [] : [`${magnification}x`]),
              ...(micronsPerPixel === null ? [] : [`${micronsPerPixel} um/px`]),
            ].join(' at '),
          )
          .join(', '),
      ],
      ['images', dataset.imageCount],
      ['slides', dataset.slideCount],
      ['image size', dataset.imageSizeNote],
      ['labels', dataset.classNames.join(', ')],
      ['tasks', dataset.tasks.map((task) => task.toLowerCase()).join(', ')],
      ['licence', dataset.licence],
      ['published', dataset.publishedYear],
      ['home', dataset.homepageUrl],
      ['cut from', dataset.parentCollections.join(', ')],
      [
        'cite',
        [citation?.authors, citation?.title, citation?.venue, citation?.doi, citation?.arxiv]
          .flatMap((part) => part?.replace(/\.$/, '') ?? [])
          .join('. '),
      ],
      ['provenance', `${dataset.provenance}${dataset.provenanceNote === null ? '' : `: ${dataset.provenanceNote}`}`],
    ]);
    const text = [
      paint('bold', dataset.name) + (dataset.synthetic ? paint('yellow', '  SYNTHETIC') : ''),
      ...(dataset.description === null ? [] : [dataset.description]),
      about,
      ...(evidence.length === 0 ? [] : ['Sources of the facts:', ...evidence]),
      versions.nodes.length === 0 ? 'No images have been imported yet.' : 'Versions:',
      ...sealed,
    ].join('\n');
    show(options, { data: dataset, names: [dataset.slug], text });
  });
