/** Why a file of weights is refused, and what to do about it. */
import { DomainError } from '../../errors.ts';
import { SafetensorsError } from '../../formats/safetensors.ts';
import { TorchCheckpointError } from '../../formats/torch-checkpoint/index.ts';
import type { EncoderDescription } from '../../formats/encoders/index.ts';
import { ENCODER_FAMILIES } from '../../formats/encoders/registry.ts';
import type { MappableTensor, RefusedMapping } from '../../formats/encoders/mapping.ts';
import type { InputContract } from '../../protocol/checkpoint.ts';

/** Longest text of a file that is repeated, in characters. */
export const MAX_TEXT = 300;
/** Number of names of each kind that an error lists. */
const MAX_NAMES = 40;

/** Translates a reader's error into an error of the registry; other errors are rethrown. */
export function explained(error: unknown): unknown {
  if (error instanceof TorchCheckpointError) {
    const isUnknown = error.fault === 'NOT_A_CHECKPOINT';
    const hint = isUnknown
      ? 'Import a safetensors file or a PyTorch checkpoint.'
      : `Fault ${error.fault}. Nothing in the file was executed.`;
    return new DomainError({ code: 'FORMAT_INVALID', message: error.message, hint, cause: error });
  }
  if (error instanceof SafetensorsError)
    return new DomainError({
      code: 'FORMAT_INVALID',
      message: error.message,
      hint: `Fault ${error.fault} of the safetensors format.`,
      cause: error,
    });
  return error;
}

/** The networks that can be imported, for messages. */
const IMPORTABLE = ENCODER_FAMILIES.map(({ importable }) => importable).join(', or ');

/** The error for a file with another network than that of the published checkpoint. */
export function otherNetwork(found: string, wanted: string): DomainError {
  return new DomainError({
    code: 'CHECKPOINT_INCOMPATIBLE',
    message: `The file contains a ${found}, and the published checkpoint is a ${wanted}.`,
    field: 'input.publishedCheckpoint',
    hint: 'Choose the file or the published checkpoint that matches, or import the file into a model of your own, by modelSlug.',
  });
}

/** @throws DomainError CHECKPOINT_INCOMPATIBLE for an input contract that the network cannot follow. */
export function checkUse(
  { name, poolings, imageSizeFault }: Pick<EncoderDescription, 'name' | 'poolings' | 'imageSizeFault'>,
  { pooling, imageSizePx }: InputContract,
): void {
  if (!poolings.includes(pooling))
    throw new DomainError({
      code: 'CHECKPOINT_INCOMPATIBLE',
      message: `The file contains a ${name}, which has no pooling ${pooling}.`,
      field: 'input.inputContract.pooling',
      hint: `Give the pooling with which it was trained: ${poolings.join(', ')}.`,
    });
  const fault = imageSizeFault(imageSizePx);
  if (fault !== undefined)
    throw new DomainError({
      code: 'CHECKPOINT_INCOMPATIBLE',
      message: fault,
      field: 'input.inputContract.imageSizePx',
      hint: 'Give the side of the images with which it was trained.',
    });
}

/** The error for a file whose tensors do not map to an encoder. */
export function refusal(
  refused: RefusedMapping,
  tensors: readonly MappableTensor[],
  fileName: string | null,
): DomainError {
  const { encoder, detectedEncoder, reason } = refused;
  const prefixes = refused.prefixes
    .slice(0, 5)
    .map(({ prefix, tensorCount: count }) => `"${prefix.slice(0, MAX_TEXT)}" (${count} tensors)`)
    .join(', ');
  const keys = (message: string, hint: string): DomainError =>
    new DomainError({ code: 'CHECKPOINT_KEYS_MISMATCH', message, hint });
  const shard = shardInWords(refused, fileName);
  if (shard !== undefined)
    return keys(
      `The file is ${shard}; it contains ${tensors.length} of its tensors.`,
      'Import the index of the shards, such as model.safetensors.index.json, or the folder that holds them.',
    );
  switch (reason) {
    case 'NO_ENCODER':
      return keys(
        `None of the file's ${tensors.length} tensors has the name of a known encoder: ${listed(refused.unexpected)}.`,
        tensors.some(({ name }) => name.includes('encoder.stages.'))
          ? `These are names of Hugging Face transformers. Only ${IMPORTABLE} can be imported.`
          : `Only ${IMPORTABLE} can be imported.`,
      );
    case 'PREFIX_UNKNOWN':
      return keys(
        `The encoder's tensor names begin with ${prefixes}, which is not a known prefix.`,
        'If this is the encoder, give the prefix as keyPrefix.',
      );
    case 'PREFIX_AMBIGUOUS':
      return keys(
        `The file contains more than one network: ${prefixes}.`,
        'Choose one by keyPrefix; the others are then left out.',
      );
    case 'ARCHITECTURE_DIFFERS':
      return new DomainError({
        code: 'CHECKPOINT_INCOMPATIBLE',
        message: `The file contains a ${detectedEncoder ?? 'different encoder'}, not the stated ${encoder ?? 'one'}.`,
        field: 'input.encoder',
        hint: 'Leave encoder out, or give the architecture of the file.',
      });
    case 'SPECIFICATION_INVALID':
      return new DomainError({
        code: 'CHECKPOINT_INCOMPATIBLE',
        message: `The specification is incomplete or wrong: ${refused.fault ?? 'a fact is missing'}.`,
        field: 'input.specification',
        hint: 'State what the tensors do not tell, and nothing else, e.g. {"headCount": 12}.',
      });
    case 'MISMATCH': {
      const parts = (['missing', 'unexpected', 'mismatched'] as const).flatMap((kind) =>
        refused[kind].length === 0 ? [] : [`${refused[kind].length} ${kind} (${listed(refused[kind])})`],
      );
      const differences = parts.join(', ');
      const { network } = refused;
      if (network !== undefined && lettersOf(network) !== lettersOf(encoder ?? ''))
        return keys(
          `The file contains ${network}, which cannot be imported: ${differences}.`,
          `Only ${IMPORTABLE} can be imported.`,
        );
      const quantised = tensors.some(({ name }) => name.includes('_packed_params'))
        ? ' Some of its layers are quantised, which is not supported.'
        : '';
      return keys(
        `The tensors do not form a ${encoder ?? 'known encoder'}: ${differences}.${quantised}`,
        prefixes === '' || refused.missing.length < refused.expectedTensorCount / 2
          ? 'Nothing was imported. Every tensor of the encoder must exist under one prefix, and every other tensor under that prefix must be of a known kind.'
          : `Nothing was imported. The networks of the file begin with ${prefixes}: give one of these as keyPrefix.`,
      );
    }
  }
}

/** Wide ResNet-50-2 and WIDE_RESNET50_2 name the same network. */
function lettersOf(name: string): string {
  return name.replaceAll(/[-_ ]/g, '').toUpperCase();
}

/** Detects one shard of a sharded state dict: its tensors are valid, but they are only a part of the network. */
function shardInWords(refused: RefusedMapping, fileName: string | null): string | undefined {
  const { missing, unexpected, mismatched } = refused;
  const [, number, count] = /-(\d{5})-of-(\d{5})\.\w+$/.exec(fileName ?? '') ?? [];
  if (number === undefined || count === undefined || Number(count) < 2) return undefined;
  const isPart = refused.reason === 'NO_ENCODER' || (missing.length > 0 && unexpected.length + mismatched.length === 0);
  return isPart ? `shard ${Number(number)} of ${Number(count)} of a checkpoint` : undefined;
}

function listed(names: readonly string[]): string {
  const some = names
    .slice(0, MAX_NAMES)
    .map((name) => cleanText(name))
    .join('; ');
  return names.length > MAX_NAMES ? `${some}; and ${names.length - MAX_NAMES} more` : some;
}

/** PostgreSQL accepts neither NUL nor a lone surrogate. */
export function cleanText(text: string): string {
  return text.slice(0, MAX_TEXT).toWellFormed().replaceAll('\0', '\uFFFD');
}
