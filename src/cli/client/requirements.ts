/** `--needs` of the commands that launch runs: what their worker must have. */
import { InvalidArgumentError } from '@commander-js/extra-typings';

/** `RunRequirementsInput`. */
export interface NeedsInput {
  readonly device?: 'CPU' | 'GPU';
  readonly bfloat16?: boolean;
  readonly memoryMiB?: number;
  readonly gpuMemoryMiB?: number;
  readonly labels?: string[];
}

export const NEEDS_HELP =
  'what its worker must have, joined by commas: cpu or gpu, bfloat16, memory=32G, gpu-memory=40G, label=NAME';

/** May be given several times. @throws InvalidArgumentError that names the part that is wrong. */
export function needsFrom(text: string, before: NeedsInput | undefined): NeedsInput {
  return text.split(',').reduce((needs, part) => withNeed(needs, part.trim()), before ?? {});
}

function withNeed(needs: NeedsInput, part: string): NeedsInput {
  const [name = '', value] = part.split('=', 2);
  switch (name.toLowerCase()) {
    case 'cpu':
      return { ...needs, device: 'CPU' };
    case 'gpu':
      return { ...needs, device: 'GPU' };
    case 'bfloat16':
      return { ...needs, bfloat16: true };
    case 'memory':
      return { ...needs, memoryMiB: mebibytesFrom(part, value) };
    case 'gpu-memory':
      return { ...needs, gpuMemoryMiB: mebibytesFrom(part, value) };
    case 'label':
      if (value !== undefined && value !== '') return { ...needs, labels: [...(needs.labels ?? []), value] };
  }
  throw new InvalidArgumentError(`"${part}" is none of cpu, gpu, bfloat16, memory=32G, gpu-memory=40G, label=NAME.`);
}

const MEBIBYTES: Readonly<Record<string, number>> = { M: 1, G: 1024, T: 1024 ** 2 };

function mebibytesFrom(part: string, value: string | undefined): number {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)([MGT])(?:i?B)?$/i.exec(value ?? '') ?? [];
  const size = Math.ceil(Number(number) * (MEBIBYTES[unit.toUpperCase()] ?? Number.NaN));
  if (size >= 1) return size;
  throw new InvalidArgumentError(`"${part}" has no size; write 512M, 32G or 1T.`);
}
