/** Position embeddings for another grid than the one that they were trained on. In double precision. */
import { prefixCountOf, prefixPositionsOf, type VitSpecification } from './specification.ts';

/**
 * What is added to the tokens of every image `[prefix + rows x columns, width]`, of which the prefix is zero before:
 * class token and registers, each with its position embedding if it has one, then the positions of the patches, row by
 * row.
 *
 * @param weights timm's state dict by name.
 */
export function tokenOffsets(
  specification: VitSpecification,
  weights: ReadonlyMap<string, Float32Array>,
  rows: number,
  columns: number,
): Float32Array {
  const { width, gridSize, hasClassToken } = specification;
  const tensor = (name: string): Float32Array => {
    const found = weights.get(name);
    if (found === undefined) throw new Error(`${name} is missing from weights that were checked.`);
    return found;
  };
  const positions = tensor('pos_embed');
  const prefixPositions = prefixPositionsOf(specification) * width;
  const prefixLength = prefixCountOf(specification) * width;
  const offsets = new Float32Array(prefixLength + rows * columns * width);
  if (hasClassToken) offsets.set(tensor('cls_token'));
  if (specification.registerCount > 0) offsets.set(tensor('reg_token'), hasClassToken ? width : 0);
  for (let index = 0; index < prefixPositions; index += 1)
    offsets[index] = (offsets[index] ?? 0) + (positions[index] ?? 0);
  const grid = positions.subarray(prefixPositions);
  const isSame = rows === gridSize && columns === gridSize;
  offsets.set(isSame ? grid : resampled(grid, specification, rows, columns), prefixLength);
  return offsets;
}

/**
 * The linear map from the positions on the network's own grid to those on another one, row by row:
 * `[rows x columns, gridSize x gridSize]`.
 */
export function positionMatrix(
  { gridSize, positionResampling }: Pick<VitSpecification, 'gridSize' | 'positionResampling'>,
  rows: number,
  columns: number,
): Float32Array {
  const { rowTaps, columnTaps } = tapsOf(gridSize, positionResampling, rows, columns);
  const matrix = new Float32Array(rows * columns * gridSize * gridSize);
  for (const [row, vertical] of rowTaps.entries())
    for (const [column, horizontal] of columnTaps.entries())
      for (const [inputRow, rowWeight] of vertical)
        for (const [inputColumn, columnWeight] of horizontal) {
          const place = ((row * columns + column) * gridSize + inputRow) * gridSize + inputColumn;
          // PLAIN repeats the edge, so that an input may occur twice.
          matrix[place] = (matrix[place] ?? 0) + rowWeight * columnWeight;
        }
  return matrix;
}

function tapsOf(
  gridSize: number,
  resampling: VitSpecification['positionResampling'],
  rows: number,
  columns: number,
): { readonly rowTaps: Taps[]; readonly columnTaps: Taps[] } {
  const tapsFor = resampling === 'ANTIALIASED' ? antialiasedTaps : plainTaps;
  return { rowTaps: tapsFor(gridSize, rows), columnTaps: tapsFor(gridSize, columns) };
}

/** One output's inputs and their weights, which sum to one. */
type Taps = readonly (readonly [input: number, weight: number])[];

function resampled(
  grid: Float32Array,
  { width, gridSize, positionResampling }: VitSpecification,
  rows: number,
  columns: number,
): Float64Array {
  const { rowTaps, columnTaps } = tapsOf(gridSize, positionResampling, rows, columns);
  const wide = new Float64Array(gridSize * columns * width);
  for (let row = 0; row < gridSize; row += 1)
    for (const [column, taps] of columnTaps.entries())
      for (const [input, weight] of taps)
        addScaled(wide, (row * columns + column) * width, grid, (row * gridSize + input) * width, width, weight);
  const result = new Float64Array(rows * columns * width);
  for (const [row, taps] of rowTaps.entries())
    for (const [input, weight] of taps)
      addScaled(result, row * columns * width, wide, input * columns * width, columns * width, weight);
  return result;
}

function addScaled(
  target: Float64Array,
  targetStart: number,
  source: Float32Array | Float64Array,
  sourceStart: number,
  length: number,
  factor: number,
): void {
  for (let index = 0; index < length; index += 1)
    target[targetStart + index] = (target[targetStart + index] ?? 0) + factor * (source[sourceStart + index] ?? 0);
}

/** Keys' cubic convolution kernel (1981) with its parameter a. */
function cubic(distance: number, a: number): number {
  const x = Math.abs(distance);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/** `torch.nn.functional.interpolate(mode='bicubic', antialias=True)`: Pillow's filter, a = -0.5. */
function antialiasedTaps(inputSize: number, outputSize: number): Taps[] {
  const scale = inputSize / outputSize;
  const stretch = Math.max(scale, 1);
  const support = 2 * stretch;
  return Array.from({ length: outputSize }, (_, output) => {
    const centre = scale * (output + 0.5);
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), inputSize);
    const weights = Array.from({ length: end - first }, (_unused, index) =>
      cubic((index + first - centre + 0.5) / stretch, -0.5),
    );
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return weights.map((weight, index) => [first + index, weight / sum] as const);
  });
}

/** `torch.nn.functional.interpolate(mode='bicubic', align_corners=False)`: a = -0.75, the edge repeated. */
function plainTaps(inputSize: number, outputSize: number): Taps[] {
  const scale = inputSize / outputSize;
  return Array.from({ length: outputSize }, (_, output) => {
    const place = scale * (output + 0.5) - 0.5;
    const first = Math.floor(place) - 1;
    return [0, 1, 2, 3].map(
      (index) => [Math.min(Math.max(first + index, 0), inputSize - 1), cubic(first + index - place, -0.75)] as const,
    );
  });
}
