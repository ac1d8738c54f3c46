/** Annotations of a slide as its tools write them: QuPath's GeoJSON, and the XML of ASAP and of Aperio. Pure. */
import { z } from 'zod';
import { valueOf } from '../label-text.ts';
import { readXml, XmlError, type XmlElement } from './xml-elements.ts';

/** A polygon with its holes; x and y alternate, in pixels of level 0. */
export interface Region {
  readonly label: string;
  /** What lies in an odd number of rings is inside. */
  readonly rings: readonly Float64Array[];
  /** True for a region that is cut out of the others of its label. */
  readonly isHole: boolean;
  /** For a reader of messages: `polygon 3 (tumour)`. */
  readonly name: string;
}

export interface Annotations {
  readonly regions: readonly Region[];
  /** What is not used, each with its reason. */
  readonly leftOut: readonly string[];
}

/** Thrown for a file that holds no annotations at all. */
export class AnnotationsError extends Error {
  override readonly name = 'AnnotationsError';
}

/** A million vertices of QuPath are 40 MB. */
export const ANNOTATION_BYTES_MAX = 256 * 1024 * 1024;
export const ANNOTATION_NAME = /\.(geojson|json|xml)$/i;

/** @throws AnnotationsError with a sentence. */
export function readAnnotations(bytes: Buffer): Annotations {
  const text = bytes.toString('utf8').replace(/^\uFEFF/, '');
  const found = text.trimStart().startsWith('<') ? readXmlAnnotations(text) : readGeoJson(text);
  if (found.regions.length === 0 && found.leftOut.length === 0) throw new AnnotationsError('It holds no polygon.');
  return found;
}

interface Collected {
  readonly regions: Region[];
  readonly leftOut: string[];
}

const numberPair = z.tuple([z.number(), z.number()]).rest(z.number());
const polygonSchema = z.array(z.array(numberPair)).min(1);
const geometrySchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('Polygon'), coordinates: polygonSchema }),
  z.object({ type: z.literal('MultiPolygon'), coordinates: z.array(polygonSchema).min(1) }),
]);
const featureSchema = z.object({
  type: z.literal('Feature'),
  geometry: z.object({ type: z.string() }).loose().nullable(),
  properties: z
    .object({
      // QuPath until 0.3 wrote the class as a text.
      classification: z.union([z.object({ name: z.string() }), z.string()]).nullish(),
      objectType: z.string().nullish(),
    })
    .nullish(),
});
const documentSchema = z.union([
  z
    .object({ type: z.literal('FeatureCollection'), features: z.array(z.unknown()) })
    .transform(({ features }) => features),
  z.array(z.unknown()),
  z
    .object({ type: z.literal('Feature') })
    .loose()
    .transform((feature): unknown[] => [feature]),
]);

function readGeoJson(text: string): Annotations {
  const features = documentSchema.safeParse(parsedJson(text)).data;
  if (features === undefined) throw new AnnotationsError('It is neither GeoJSON nor the XML of ASAP or Aperio.');
  const found: Collected = { regions: [], leftOut: [] };
  for (const [index, raw] of features.entries()) {
    const feature = featureSchema.safeParse(raw).data;
    if (feature === undefined) {
      found.leftOut.push(`Feature ${index + 1} is not a feature of GeoJSON.`);
      continue;
    }
    const { geometry, properties } = feature;
    // Cells and tiles that QuPath has detected are no annotation of anybody.
    const kind = properties?.objectType ?? 'annotation';
    if (kind !== 'annotation') continue;
    const written = properties?.classification;
    const label = valueOf((typeof written === 'string' ? written : written?.name) ?? '');
    const name = `polygon ${index + 1} (${label ?? 'without a class'})`;
    const area = geometrySchema.safeParse(geometry).data;
    if (label === null) found.leftOut.push(`Polygon ${index + 1} has no class.`);
    else if (area === undefined)
      found.leftOut.push(
        `Feature ${index + 1} (${label}) is a ${geometry?.type ?? 'feature without a place'}, not a polygon.`,
      );
    else
      for (const polygon of area.type === 'Polygon' ? [area.coordinates] : area.coordinates)
        add(found, {
          label,
          isHole: false,
          name,
          rings: polygon.map((ring) => Float64Array.from(ring.flatMap(([x, y]) => [x, y]))),
        });
  }
  return found;
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new AnnotationsError('It is neither JSON nor XML.');
  }
}

function readXmlAnnotations(text: string): Annotations {
  const root = ((): XmlElement => {
    try {
      return readXml(text);
    } catch (error) {
      throw error instanceof XmlError ? new AnnotationsError(error.message) : error;
    }
  })();
  switch (root.name) {
    case 'ASAP_Annotations':
      return readAsap(root);
    case 'Annotations':
      return readAperio(root);
    default:
      throw new AnnotationsError(`Its XML begins with <${root.name}>, which is neither ASAP's nor Aperio's.`);
  }
}

/** The class of a polygon is its group. */
function readAsap(root: XmlElement): Annotations {
  const found: Collected = { regions: [], leftOut: [] };
  const annotations = childrenNamed(root, 'Annotations').flatMap((each) => childrenNamed(each, 'Annotation'));
  for (const [index, annotation] of annotations.entries()) {
    const group = annotation.attributes.get('PartOfGroup') ?? '';
    const label = /^none$/i.test(group) ? null : valueOf(group);
    const type = annotation.attributes.get('Type') ?? '';
    const name = `polygon ${index + 1} (${label ?? 'without a group'})`;
    if (label === null) found.leftOut.push(`Polygon ${index + 1} is in no group.`);
    else if (type !== 'Polygon' && type !== 'Rectangle')
      found.leftOut.push(`Annotation ${index + 1} (${label}) is a ${type || 'shape without a type'}, not a polygon.`);
    else
      add(found, {
        ...{ label, isHole: false, name },
        rings: [
          verticesOf(
            childrenNamed(annotation, 'Coordinates').flatMap((each) => childrenNamed(each, 'Coordinate')),
            'Order',
          ),
        ],
      });
  }
  return found;
}

/** ImageScope's types of regions that enclose an area by its vertices. */
const APERIO_AREAS: readonly string[] = ['0', '1'];

/** The class of a region is the name of its layer; a negative region is cut out of its layer. */
function readAperio(root: XmlElement): Annotations {
  const found: Collected = { regions: [], leftOut: [] };
  for (const [layerIndex, layer] of childrenNamed(root, 'Annotation').entries()) {
    const label = valueOf(layer.attributes.get('Name') ?? '');
    const regions = childrenNamed(layer, 'Regions').flatMap((each) => childrenNamed(each, 'Region'));
    for (const [index, region] of regions.entries()) {
      const name = `region ${index + 1} of layer ${layerIndex + 1} (${label ?? 'without a name'})`;
      const type = region.attributes.get('Type') ?? '0';
      if (label === null)
        found.leftOut.push(`Layer ${layerIndex + 1} has no name, so that its region ${index + 1} has no class.`);
      else if (!APERIO_AREAS.includes(type))
        found.leftOut.push(`The ${name} is of type ${type}, not an outline or a rectangle.`);
      else
        add(found, {
          ...{ label, name, isHole: region.attributes.get('NegativeROA') === '1' },
          rings: [
            verticesOf(
              childrenNamed(region, 'Vertices').flatMap((each) => childrenNamed(each, 'Vertex')),
              null,
            ),
          ],
        });
    }
  }
  return found;
}

function childrenNamed({ children }: XmlElement, name: string): XmlElement[] {
  return children.filter((child) => child.name === name);
}

/** @param order the attribute by which the vertices are sorted; null: they stand in order. */
function verticesOf(elements: readonly XmlElement[], order: string | null): Float64Array {
  const number = (element: XmlElement, name: string): number =>
    Number((element.attributes.get(name) ?? 'none').replace(',', '.'));
  const sorted = order === null ? elements : elements.toSorted((a, b) => number(a, order) - number(b, order));
  return Float64Array.from(sorted.flatMap((element) => [number(element, 'X'), number(element, 'Y')]));
}

/** A last vertex that repeats the first is dropped. */
function add({ regions, leftOut }: Collected, region: Region): void {
  const rings = region.rings.map((ring) =>
    ring.length >= 4 && ring[0] === ring.at(-2) && ring[1] === ring.at(-1) ? ring.subarray(0, -2) : ring,
  );
  if (rings.some((ring) => ring.some((value) => !Number.isFinite(value))))
    leftOut.push(`A vertex of ${region.name} is not a number.`);
  else if ((rings[0]?.length ?? 0) < 6) leftOut.push(`The ${region.name} has fewer than three vertices.`);
  else regions.push({ ...region, rings: rings.filter((ring) => ring.length >= 6) });
}
