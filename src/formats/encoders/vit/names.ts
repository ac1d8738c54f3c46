/**
 * How the files of the field name a vision transformer's tensors, and what the tensors say about the network.
 *
 * TIMM: timm, and the original files of DINO and iBOT. DINOV2: the original files of DINOv2. HF_VIT and HF_DINOV2:
 * Hugging Face transformers (`ViTModel`; `Dinov2Model`, `Dinov2WithRegistersModel`), which store queries, keys and
 * values apart. DINOv2 names the layers of a SwiGLU otherwise than those of a GELU.
 */
import type { JoinTensors, MappableTensor, NetworkInFile, NetworkPlace } from '../family.ts';
import { statedFactsSchema, vitSpecificationSchema, type VitSpecification } from './specification.ts';

type VitNaming = 'TIMM' | 'DINOV2' | 'DINOV2_SWIGLU' | 'HF_VIT' | 'HF_DINOV2' | 'HF_DINOV2_SWIGLU';

/** A module or parameter in the file, and in timm's state dict; # stands for the number of a block. */
type NamePair = readonly [inFile: string, own: string];

const HF_COMMON: readonly NamePair[] = [
  ['embeddings.cls_token', 'cls_token'],
  ['embeddings.register_tokens', 'reg_token'],
  ['embeddings.position_embeddings', 'pos_embed'],
  ['embeddings.patch_embeddings.projection', 'patch_embed.proj'],
  ['encoder.layer.#.attention.attention.{query,key,value}', 'blocks.#.attn.qkv'],
  ['encoder.layer.#.attention.output.dense', 'blocks.#.attn.proj'],
  ['layernorm', 'norm'],
];
const DINOV2: readonly NamePair[] = [['register_tokens', 'reg_token']];
const HF_DINOV2: readonly NamePair[] = [
  ...HF_COMMON,
  ['encoder.layer.#.norm1', 'blocks.#.norm1'],
  ['encoder.layer.#.norm2', 'blocks.#.norm2'],
  ['encoder.layer.#.layer_scale1.lambda1', 'blocks.#.ls1.gamma'],
  ['encoder.layer.#.layer_scale2.lambda1', 'blocks.#.ls2.gamma'],
];
/** Names that a scheme shares with timm are not listed. */
const PAIRS: Readonly<Record<VitNaming, readonly NamePair[]>> = {
  TIMM: [],
  DINOV2,
  DINOV2_SWIGLU: [...DINOV2, ['blocks.#.mlp.w12', 'blocks.#.mlp.fc1'], ['blocks.#.mlp.w3', 'blocks.#.mlp.fc2']],
  HF_VIT: [
    ...HF_COMMON,
    ['encoder.layer.#.layernorm_before', 'blocks.#.norm1'],
    ['encoder.layer.#.layernorm_after', 'blocks.#.norm2'],
    ['encoder.layer.#.intermediate.dense', 'blocks.#.mlp.fc1'],
    ['encoder.layer.#.output.dense', 'blocks.#.mlp.fc2'],
  ],
  HF_DINOV2: [
    ...HF_DINOV2,
    ['encoder.layer.#.mlp.fc1', 'blocks.#.mlp.fc1'],
    ['encoder.layer.#.mlp.fc2', 'blocks.#.mlp.fc2'],
  ],
  HF_DINOV2_SWIGLU: [
    ...HF_DINOV2,
    ['encoder.layer.#.mlp.weights_in', 'blocks.#.mlp.fc1'],
    ['encoder.layer.#.mlp.weights_out', 'blocks.#.mlp.fc2'],
  ],
};

const PARTS = ['query', 'key', 'value'] as const;
const OWN_NAME =
  /^(?:cls_token|reg_token|pos_embed|blocks\.\d+\.ls[12]\.gamma|(?:patch_embed\.proj|norm_pre|norm|fc_norm|blocks\.\d+\.(?:norm[12]|attn\.(?:qkv|proj)|mlp\.fc[12]))\.(?:weight|bias))$/;
const STEMS: readonly (readonly [stem: string, isHuggingFace: boolean])[] = [
  ['patch_embed.proj.weight', false],
  ['embeddings.patch_embeddings.projection.weight', true],
];

/** The token that stands for hidden patches in a training by masking. */
export const UNUSED = /^(?:embeddings\.)?mask_token$/;

export function ownName(name: string, naming: string): string | undefined {
  for (const [inFile, own] of pairsOf(naming)) {
    const renamed = replaced(name, inFile, own);
    if (renamed !== undefined) return renamed;
  }
  return name;
}

export function nameInFile(name: string, { prefix, naming }: NetworkPlace): string {
  for (const [inFile, own] of pairsOf(naming)) {
    const renamed = replaced(name, own, inFile);
    if (renamed !== undefined) return `${prefix}${renamed}`;
  }
  return `${prefix}${name}`;
}

function pairsOf(naming: string): readonly NamePair[] {
  return isVitNaming(naming) ? PAIRS[naming] : [];
}

function isVitNaming(naming: string): naming is VitNaming {
  return Object.hasOwn(PAIRS, naming);
}

/** The name with its beginning `from` replaced by `to`, if it begins so. */
function replaced(name: string, from: string, to: string): string | undefined {
  const fromWords = from.split('.');
  const words = name.split('.');
  let block = '';
  for (const [index, word] of fromWords.entries()) {
    const found = words[index];
    if (found === undefined || (word === '#' ? !/^\d+$/.test(found) : word !== found)) return undefined;
    if (word === '#') block = found;
  }
  return [to.replace('#', block), ...words.slice(fromWords.length)].join('.');
}

export function networksIn(tensors: readonly MappableTensor[]): NetworkInFile[] {
  const names = new Set(tensors.map(({ name }) => name));
  const places = tensors.flatMap(({ name }): NetworkPlace[] =>
    STEMS.flatMap(([stem, isHuggingFace]) => {
      if (name !== stem && !name.endsWith(`.${stem}`)) return [];
      const prefix = name.slice(0, -stem.length);
      return [{ prefix, naming: namingOf((own) => names.has(`${prefix}${own}`), isHuggingFace) }];
    }),
  );
  return places
    .map((place): NetworkInFile => {
      const own = new Set(joined(tensors, place, describeJoined).flatMap(({ name }) => ownNameOf(name, place)));
      const tensorCount = [...own].filter((name) => OWN_NAME.test(name)).length;
      const isWhole = ['pos_embed', 'blocks.0.attn.qkv.weight', 'blocks.0.mlp.fc2.weight'].every((name) =>
        own.has(name),
      );
      return { ...place, tensorCount, isWhole };
    })
    .sort((a, b) => b.tensorCount - a.tensorCount || (a.prefix < b.prefix ? -1 : 1));
}

function ownNameOf(name: string, { prefix, naming }: NetworkPlace): string[] {
  const own = name.startsWith(prefix) ? ownName(name.slice(prefix.length), naming) : undefined;
  return own === undefined ? [] : [own];
}

function namingOf(has: (name: string) => boolean, isHuggingFace: boolean): VitNaming {
  if (isHuggingFace) {
    if (!has('encoder.layer.0.norm1.weight')) return 'HF_VIT';
    return has('encoder.layer.0.mlp.weights_in.weight') ? 'HF_DINOV2_SWIGLU' : 'HF_DINOV2';
  }
  if (has('blocks.0.mlp.w12.weight')) return 'DINOV2_SWIGLU';
  return has('mask_token') || has('register_tokens') ? 'DINOV2' : 'TIMM';
}

const describeJoined: JoinTensors<MappableTensor> = (name, parts) => {
  const [first] = parts;
  const rows = parts.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0);
  return { name, dtype: first?.dtype ?? 'F32', shape: [rows, ...(first?.shape.slice(1) ?? [])] };
};

/** Queries, keys and values of a block as one tensor, where all three exist in one shape and dtype. */
export function joined<T extends MappableTensor>(
  tensors: readonly T[],
  { prefix, naming }: NetworkPlace,
  join: JoinTensors<T>,
): readonly T[] {
  if (!naming.startsWith('HF_')) return tensors;
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const taken = new Set<T>();
  const fused = tensors.flatMap((tensor) => {
    const name = tensor.name.startsWith(prefix) ? tensor.name.slice(prefix.length) : '';
    const [, start, end] = /^(encoder\.layer\.\d+\.attention\.attention\.)query(\.(?:weight|bias))$/.exec(name) ?? [];
    if (start === undefined || end === undefined) return [];
    const parts = PARTS.flatMap((part) => byName.get(`${prefix}${start}${part}${end}`) ?? []);
    const isOne = parts.every(
      ({ dtype, shape }) => dtype === tensor.dtype && shape.join() === tensor.shape.join() && shape.length > 0,
    );
    if (parts.length < PARTS.length || !isOne) return [];
    for (const part of parts) taken.add(part);
    return [join(`${prefix}${start}{${PARTS.join()}}${end}`, parts)];
  });
  return [...tensors.filter((tensor) => !taken.has(tensor)), ...fused];
}

/** Heads by width, as the networks of the field have them: 64 features each, except in the largest. */
const HEAD_COUNTS: ReadonlyMap<number, number> = new Map([
  [192, 3],
  [384, 6],
  [768, 12],
  [1024, 16],
  [1280, 16],
  [1408, 16],
  [1536, 24],
  [1664, 16],
]);
/** What the networks of the field add to the variance in their layer norms. */
function usualEpsilon(naming: VitNaming, hasPreNorm: boolean): number {
  // timm has a norm before the first block in CLIP's networks only, all of which have this epsilon.
  if (hasPreNorm) return 1e-5;
  return naming === 'HF_VIT' ? 1e-12 : 1e-6;
}

export type RecognisedVit =
  | { readonly specification: VitSpecification }
  /** What the tensors do not tell. */
  | { readonly fault: string }
  /** The tensors are not those of a vision transformer that can be built. */
  | { readonly inWords: string };

/**
 * The specification by names and shapes; shapes are checked one by one afterwards.
 *
 * @param tensors by timm's names.
 * @param stated what names and shapes do not tell; stated facts win over what is usual.
 */
export function recognisedVit(
  tensors: readonly MappableTensor[],
  naming: string,
  stated: Readonly<Record<string, unknown>>,
): RecognisedVit {
  const known = statedFactsSchema.safeParse(stated);
  if (!known.success) return { fault: known.error.issues.map(issueInWords).join('; ') };
  const shapes = new Map(tensors.map(({ name, shape }) => [name, shape]));
  const sizeOf = (name: string, axis: number): number => shapes.get(name)?.[axis] ?? 0;
  const width = sizeOf('patch_embed.proj.weight', 0);
  const patchSizePx = sizeOf('patch_embed.proj.weight', 2);
  if (sizeOf('patch_embed.proj.weight', 1) !== 3)
    return { inWords: `a vision transformer with ${sizeOf('patch_embed.proj.weight', 1)} input channels` };
  let depth = 0;
  while (shapes.has(`blocks.${depth}.norm1.weight`)) depth += 1;
  const hasClassToken = shapes.has('cls_token');
  const registerCount = sizeOf('reg_token', 1);
  const hasPreNorm = shapes.has('norm_pre.weight');
  const mlpWidth = sizeOf('blocks.0.mlp.fc2.weight', 1);
  const grid = gridOf(sizeOf('pos_embed', 1), hasClassToken, registerCount);
  if (grid === undefined)
    return { inWords: `a vision transformer with ${sizeOf('pos_embed', 1)} position embeddings, which form no square` };
  const headCount = known.data.headCount ?? HEAD_COUNTS.get(width);
  if (headCount === undefined) return { fault: `headCount is unknown for a width of ${width}` };
  const scheme = isVitNaming(naming) ? naming : 'TIMM';
  const parsed = vitSpecificationSchema.safeParse({
    patchSizePx,
    width,
    depth,
    mlpWidth,
    mlp: sizeOf('blocks.0.mlp.fc1.weight', 0) === 2 * mlpWidth ? 'SWIGLU' : 'GELU',
    hasClassToken,
    registerCount,
    ...grid,
    hasPatchBias: shapes.has('patch_embed.proj.bias'),
    hasQkvBias: shapes.has('blocks.0.attn.qkv.bias'),
    hasLayerScale: shapes.has('blocks.0.ls1.gamma'),
    hasPreNorm,
    finalNorm: shapes.has('fc_norm.weight') && !shapes.has('norm.weight') ? 'AFTER_POOLING' : 'BEFORE_POOLING',
    headCount,
    normEpsilon: usualEpsilon(scheme, hasPreNorm),
    blockNorm: 'PRE',
    positionResampling: scheme === 'TIMM' || registerCount > 0 ? 'ANTIALIASED' : 'PLAIN',
    ...known.data,
  });
  if (parsed.success) return { specification: parsed.data };
  const { issues } = parsed.error;
  // Nobody can state the other facts, which are read from the tensors: a depth of 0 if the blocks have unknown names.
  const ofStatement = issues.filter(({ path }) => Object.hasOwn(statedFactsSchema.shape, String(path[0])));
  if (ofStatement.length > 0) return { fault: ofStatement.map(issueInWords).join('; ') };
  const facts = issues.map(({ path }) => path.map(String).join('.')).join(', ');
  return { inWords: `a vision transformer whose blocks have other names or sizes than are known (${facts})` };
}

function issueInWords({ path, message }: { readonly path: readonly PropertyKey[]; readonly message: string }): string {
  return `${path.map(String).join('.')} ${message}`.trim();
}

/**
 * The tokens to which the position embeddings belong: their number less the tokens in front of the patches is a square.
 * Of networks with registers, timm's own have positions for the patches only.
 */
function gridOf(
  count: number,
  hasClassToken: boolean,
  registerCount: number,
): Pick<VitSpecification, 'positions' | 'gridSize'> | undefined {
  const classCount = hasClassToken ? 1 : 0;
  const candidates = [
    ...(registerCount > 0 ? [['PATCHES', 0] as const, ['CLASS_AND_PATCHES', classCount] as const] : []),
    ['ALL', classCount + registerCount] as const,
    ['PATCHES', 0] as const,
  ];
  for (const [positions, prefix] of candidates) {
    const gridSize = Math.sqrt(count - prefix);
    if (count > prefix && Number.isInteger(gridSize))
      return { positions: prefix === 0 ? 'PATCHES' : positions, gridSize };
  }
  return undefined;
}
