/**
 * Finds ResNets in a checkpoint's tensor names: the prefix of each, its naming scheme, and its architecture, including
 * architectures that cannot be imported.
 */
import type { NetworkInFile, NetworkPlace } from '../family.ts';
import { STAGE_WIDTHS } from './specification.ts';

/**
 * TORCHVISION: `conv1`, `bn1`, `layer1` to `layer4`, `fc`. SEQUENTIAL: the positions of the same parts in
 * `nn.Sequential(*resnet.children())`, as lightly and many training scripts save them: `0`, `1`, `4` to `7`, `9`; what
 * follows the pooling at 8 is a head.
 */
type ResnetNaming = 'TORCHVISION' | 'SEQUENTIAL';

interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
}

const NORM_PART = '(?:weight|bias|running_mean|running_var|num_batches_tracked)';
const BLOCK_PART = `(?:conv[123]\\.weight|bn[123]\\.${NORM_PART}|downsample\\.0\\.weight|downsample\\.1\\.${NORM_PART})`;
/** The shortest prefix, so that a block's own `conv1.weight` is never mistaken for a stem. */
const RESIDUAL_BLOCK_NAME = new RegExp(`^(|.*?\\.)(layer[1-4]|[4-7])\\.\\d+\\.${BLOCK_PART}$`);
const CANONICAL = new RegExp(`^(?:conv1\\.weight|bn1\\.${NORM_PART}|layer[1-4]\\.\\d+\\.${BLOCK_PART})$`);
const SEQUENTIAL_PARTS: Readonly<Record<string, string>> = {
  '0': 'conv1',
  '1': 'bn1',
  '4': 'layer1',
  '5': 'layer2',
  '6': 'layer3',
  '7': 'layer4',
  '9': 'fc',
};
const POOLING_POSITION = 8;

/** Converts a name within a network to torchvision's; undefined if the naming scheme does not contain it. */
export function torchvisionName(name: string, naming: string): string | undefined {
  if (naming === 'TORCHVISION') return name;
  const dot = name.indexOf('.');
  if (dot < 0) return undefined;
  const position = name.slice(0, dot);
  const part = SEQUENTIAL_PARTS[position];
  if (part !== undefined) return `${part}${name.slice(dot)}`;
  return /^\d+$/.test(position) && Number(position) > POOLING_POSITION ? `head.${name}` : undefined;
}

/** The inverse: converts torchvision's name to the file's. */
export function nameInFile(name: string, { prefix, naming }: NetworkPlace): string {
  if (naming === 'TORCHVISION') return `${prefix}${name}`;
  const dot = name.indexOf('.');
  const part = name.slice(0, dot);
  const position = Object.entries(SEQUENTIAL_PARTS).find(([, candidate]) => candidate === part)?.[0] ?? part;
  return `${prefix}${position}${name.slice(dot)}`;
}

/** Every network that has at least one tensor of a residual block, the one with the most tensors first. */
export function networksIn(tensors: readonly { readonly name: string }[]): NetworkInFile[] {
  const places = new Map<string, NetworkPlace>();
  for (const { name } of tensors) {
    const [, prefix, layer] = RESIDUAL_BLOCK_NAME.exec(name) ?? [];
    if (prefix === undefined || layer === undefined) continue;
    const naming: ResnetNaming = layer.startsWith('layer') ? 'TORCHVISION' : 'SEQUENTIAL';
    places.set(`${naming} ${prefix}`, { prefix, naming });
  }
  return [...places.values()]
    .map(({ prefix, naming }): NetworkInFile => {
      const own = ownNames(tensors, { prefix, naming });
      const isWhole =
        own.has('conv1.weight') && STAGE_WIDTHS.every((_width, index) => own.has(`layer${index + 1}.0.conv1.weight`));
      return { prefix, naming, tensorCount: own.size, isWhole };
    })
    .sort((a, b) => b.tensorCount - a.tensorCount || (a.prefix < b.prefix ? -1 : 1));
}

function ownNames(tensors: readonly { readonly name: string }[], { prefix, naming }: NetworkPlace): Set<string> {
  return new Set(
    tensors.flatMap(({ name }) => {
      const own = name.startsWith(prefix) ? torchvisionName(name.slice(prefix.length), naming) : undefined;
      return own !== undefined && CANONICAL.test(own) ? [own] : [];
    }),
  );
}

const DEPTHS: readonly (readonly [depths: string, basic: string, bottleneck: string])[] = [
  ['1,1,1,1', 'ResNet-10', 'ResNet-14'],
  ['2,2,2,2', 'ResNet-18', 'ResNet-26'],
  ['3,4,6,3', 'ResNet-34', 'ResNet-50'],
  ['3,4,23,3', 'a ResNet of basic blocks 3, 4, 23, 3', 'ResNet-101'],
  ['3,8,36,3', 'a ResNet of basic blocks 3, 8, 36, 3', 'ResNet-152'],
  ['3,24,36,3', 'a ResNet of basic blocks 3, 24, 36, 3', 'ResNet-200'],
];

/**
 * Describes a network for an error message: `ResNet-152`, `Wide ResNet-50-2`, `ResNeXt-50 (32 groups)`, `ResNet-18 with
 * a 3x3 stem (as for CIFAR)`. Undefined where a layer is missing.
 * @param tensors of one network, by torchvision's names.
 */
export function resnetInWords(tensors: readonly NamedTensor[]): string | undefined {
  const shapes = new Map(tensors.map(({ name, shape }) => [name, shape]));
  const depths = STAGE_WIDTHS.map((_width, layer) => {
    let depth = 0;
    while (shapes.has(`layer${layer + 1}.${depth}.conv1.weight`)) depth += 1;
    return depth;
  });
  if (depths.some((depth) => depth === 0)) return undefined;
  const isBottleneck = shapes.has('layer1.0.conv3.weight');
  const known = DEPTHS.find(([each]) => each === depths.join(','));
  const plain = known === undefined ? `a ResNet of ${depths.join(', ')} blocks` : isBottleneck ? known[2] : known[1];
  const [width = 64, groupWidth = 64] = shapes.get('layer1.0.conv2.weight') ?? [];
  const groupCount = groupWidth === 0 ? 1 : width / groupWidth;
  const name =
    groupCount > 1
      ? `${plain.replace('ResNet', 'ResNeXt')} (${groupCount} groups)`
      : width === 64
        ? plain
        : width === 128
          ? `Wide ${plain}-2`
          : `Wide ${plain} (${width} channels in the first layer's blocks)`;
  return [name, ...stemInWords(shapes.get('conv1.weight'))].join(' with ');
}

/** Describes how the first convolution differs from torchvision's `[64, 3, 7, 7]`. */
function stemInWords(shape: readonly number[] | undefined): string[] {
  if (shape?.length !== 4) return [];
  const [, channelCount, height, width] = shape;
  return [
    ...(channelCount === 3 ? [] : [`${channelCount} input channel${channelCount === 1 ? '' : 's'} instead of 3 (RGB)`]),
    ...(height === 7 && width === 7
      ? []
      : [`a ${height}x${width} stem instead of 7x7${height === 3 ? ' (as for CIFAR)' : ''}`]),
  ];
}
