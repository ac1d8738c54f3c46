/** `paraffin slides ls`: the slides of a version, with what became of each. */
import { oneOf, wholeNumberFrom } from '../command.ts';
import { CommandFailure } from '../exit-codes.ts';
import { printable, table } from '../terminal.ts';
import { clientCommand, connect, type Registry } from './connection.ts';
import { graphql, type ResultOf } from './graphql.ts';
import { printNote, show } from './output.ts';
import { findVersion } from './references.ts';

const SLIDES = graphql(`
  query Slides($id: ID!, $first: Int, $after: String, $filter: SlideFilter) {
    node(id: $id) {
      ... on DatasetVersion {
        slides(first: $first, after: $after, filter: $filter) {
          totalCount
          pageInfo {
            hasNextPage
            endCursor
          }
          nodes {
            path
            status
            issueKind
            reason
            fileDigest
            fileByteSize
            label
            group
            split
            vendor
            width
            height
            levels {
              width
              height
              downsample
            }
            micronsPerPixel {
              x
              y
              source
              property
            }
            objective
            patchCount
            tissueFraction
            penFraction
            thumbnailUrl
            tissueMaskUrl
          }
        }
      }
    }
  }
`);
type Slides = Extract<NonNullable<ResultOf<typeof SLIDES>['node']>, { slides: unknown }>['slides'];
type Slide = Slides['nodes'][number];

const PAGE_SIZE = 200;
const DEFAULT_LIMIT = 50;
const STATUSES = { IMPORTED: true, LEFT_OUT: true } as const;

export const listSlidesCommand = clientCommand('ls', {
  summary: 'list the slides of a version, with what became of each',
  details:
    'Lists every slide of the folder from which a version (default: the latest) was imported: how many patches the version has of it, its share of tissue and microns per pixel, or why it was left out. --json prints also levels, digest of the file, and the paths of thumbnail and tissue mask on the server.',
  examples: [
    'slides ls prostate',
    'slides ls prostate@2 --status left-out',
    'slides ls prostate --search TCGA-EJ --json',
  ],
})
  .argument('<version>', 'dataset or dataset@version')
  .option('--status <status>', 'only these: imported, left-out', oneOf(STATUSES))
  .option('--label <label>', 'only slides with this label')
  .option('--search <text>', 'only slides whose path contains this')
  .option('--limit <n>', 'show at most this number', wholeNumberFrom(1), DEFAULT_LIMIT)
  .action(async (reference, { status, label, search, limit, ...options }) => {
    const registry = await connect(options);
    const version = await findVersion(registry, reference);
    const filter = { status: status ?? null, label: label ?? null, search: search ?? null };
    const slides: Slide[] = [];
    let page = await pageOfSlides(registry, version.id, filter, Math.min(limit, PAGE_SIZE), null);
    const { totalCount } = page;
    slides.push(...page.nodes);
    while (page.pageInfo.hasNextPage && slides.length < limit) {
      const first = Math.min(PAGE_SIZE, limit - slides.length);
      page = await pageOfSlides(registry, version.id, filter, first, page.pageInfo.endCursor);
      slides.push(...page.nodes);
    }
    const none = `${version.datasetSlug}@${version.version} has no such slides, or was not cut from slides.`;
    show(options, {
      data: slides,
      names: slides.map(({ path }) => path),
      text: slides.length === 0 ? none : asTable(slides),
    });
    if (totalCount > slides.length) printNote(options, `${slides.length} of ${totalCount}; --limit shows more.`);
  });

async function pageOfSlides(
  registry: Registry,
  id: string,
  filter: { status: keyof typeof STATUSES | null; label: string | null; search: string | null },
  first: number,
  after: string | null,
): Promise<Slides> {
  const { node } = await registry.ask(SLIDES, { id, first, after, filter });
  if (node !== null && 'slides' in node) return node.slides;
  throw new CommandFailure({ message: `The dataset version ${id} does not exist.` });
}

function asTable(slides: readonly Slide[]): string {
  const rows = slides.map(({ path, label, patchCount, tissueFraction, width, height, micronsPerPixel, reason }) => [
    printable(path),
    printable(label ?? '-'),
    String(patchCount),
    tissueFraction === null ? '-' : `${Number((tissueFraction * 100).toPrecision(2))} %`,
    width === null || height === null ? '-' : `${width} x ${height}`,
    micronsPerPixel === null ? '-' : String(Number(micronsPerPixel.x.toPrecision(4))),
    printable(reason ?? ''),
  ]);
  return table(['slide', 'label', 'patches', 'tissue', 'size px', 'um/px', 'left out because'], rows);
}
