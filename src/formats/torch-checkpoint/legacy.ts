/**
 * Checkpoints of PyTorch before 1.6 (and of `_use_new_zipfile_serialization=False`): five pickles one after another
 * (magic number, protocol, system, the object, the keys of the storages), then each storage as its int64 length in
 * elements and its bytes.
 */
import type { RandomAccess } from '../random-access.ts';
import { BYTES_PER_ELEMENT } from './dtype.ts';
import { quoted, TorchCheckpointError } from './fault.ts';
import type { TorchCheckpointLimits } from './limits.ts';
import type { OpenedCheckpoint } from './opened.ts';
import { readPickle } from './pickle-machine.ts';
import type { PickleValue } from './pickle-values.ts';
import { readExactly } from './read.ts';
import { TorchHost } from './torch-host.ts';
import type { DeclaredStorage } from './torch-host.ts';

const MAGIC_NUMBER = 0x1950a86a20f9469cfc6cn;
const PROTOCOL_VERSION = 1001;
const FIRST_WINDOW_BYTES = 256 * 1024;
const LENGTH_BYTES = 8;

/** @throws TorchCheckpointError with the first fault. */
export async function openLegacy(source: RandomAccess, limits: TorchCheckpointLimits): Promise<OpenedCheckpoint> {
  let offset = 0;
  const next = async (place: string): Promise<{ value: PickleValue; host: TorchHost }> => {
    const { value, host, byteSize } = await readPickleAt(source, offset, place, limits);
    offset += byteSize;
    return { value, host };
  };
  const magic = await next('magic number');
  if (magic.value !== MAGIC_NUMBER)
    throw new TorchCheckpointError(
      'NOT_A_CHECKPOINT',
      'magic number',
      'The file is a pickle, but not one that torch.save wrote.',
    );
  const protocol = await next('protocol version');
  if (protocol.value !== PROTOCOL_VERSION)
    throw new TorchCheckpointError(
      'VERSION_UNSUPPORTED',
      'protocol version',
      `The file's protocol is not ${PROTOCOL_VERSION}.`,
    );
  const system = await next('system information');
  checkByteOrder(system.value);
  const object = await next('pickle');
  const keys = await next('storage keys');
  const places = await locateStorages(source, offset, keys.value, object.host.storages);
  return {
    format: 'LEGACY',
    value: object.value,
    inertGlobals: [magic, protocol, system, object, keys].flatMap(({ host }) => host.inertGlobals),
    storages: {
      read: async (key, byteOffset, length, into) => {
        const start = places.get(key);
        if (start === undefined)
          throw new TorchCheckpointError('STORAGE_MISSING', 'storages', `Storage ${quoted(key)} is not in the file.`);
        return readExactly(source, start + byteOffset, length, `storage ${quoted(key)}`, into);
      },
    },
  };
}

/**
 * A pickle does not state its length: it is parsed from a part of the file, and from four times as much as long as it
 * does not end within it.
 */
async function readPickleAt(
  source: RandomAccess,
  offset: number,
  place: string,
  limits: TorchCheckpointLimits,
): Promise<{ value: PickleValue; host: TorchHost; byteSize: number }> {
  const available = Math.min(source.byteSize - offset, limits.maxPickleBytes);
  for (let windowBytes = FIRST_WINDOW_BYTES; ; windowBytes *= 4) {
    const bytes = await readExactly(source, offset, Math.min(windowBytes, available), place);
    const host = new TorchHost(place, limits);
    try {
      return { ...readPickle(bytes, place, host, limits), host };
    } catch (error) {
      if (!(error instanceof TorchCheckpointError && error.fault === 'PICKLE_TRUNCATED')) throw error;
      if (windowBytes < available) continue;
      if (available === source.byteSize - offset) throw error;
      throw new TorchCheckpointError('PICKLE_TOO_LARGE', place, `The pickle does not end within ${available} bytes.`, {
        cause: error,
      });
    }
  }
}

function checkByteOrder(system: PickleValue): void {
  const isDict = typeof system === 'object' && system?.kind === 'DICT';
  const isLittleEndian = isDict ? system.entries.get('little_endian') : undefined;
  if (isLittleEndian === false)
    throw new TorchCheckpointError(
      'BIG_ENDIAN',
      'system information',
      'The checkpoint was written on a big-endian machine; only little-endian files are supported.',
    );
  if (isLittleEndian !== true)
    throw new TorchCheckpointError(
      'BYTE_ORDER_INVALID',
      'system information',
      'The file does not state its byte order.',
    );
}

/**
 * The offset of each storage's bytes. The keys and the pickle must list the same storages, and the last storage must
 * end the file.
 */
async function locateStorages(
  source: RandomAccess,
  start: number,
  keys: PickleValue,
  declared: ReadonlyMap<string, DeclaredStorage>,
): Promise<Map<string, number>> {
  if (typeof keys !== 'object' || keys?.kind !== 'LIST')
    throw new TorchCheckpointError('STORAGE_UNKNOWN', 'storage keys', 'The file has no list of its storages.');
  const places = new Map<string, number>();
  let offset = start;
  for (const key of keys.items) {
    const storage = typeof key === 'string' ? declared.get(key) : undefined;
    if (storage === undefined)
      throw new TorchCheckpointError(
        'STORAGE_UNKNOWN',
        'storage keys',
        'The file lists a storage that its pickle does not mention.',
      );
    const place = `storage ${quoted(storage.key)}`;
    if (places.has(storage.key))
      throw new TorchCheckpointError('STORAGE_CONFLICT', 'storage keys', `The file lists ${place} twice.`);
    const lengthBytes = await readExactly(source, offset, LENGTH_BYTES, place);
    const elementCount = new DataView(lengthBytes.buffer).getBigInt64(0, true);
    const elementBytes = storage.dtype === undefined ? 1 : BYTES_PER_ELEMENT[storage.dtype];
    if (elementCount * BigInt(elementBytes) !== BigInt(storage.byteSize)) {
      throw new TorchCheckpointError(
        'STORAGE_SIZE_MISMATCH',
        place,
        `The file gives ${place} ${elementCount} elements; its pickle says ${storage.byteSize / elementBytes}.`,
      );
    }
    places.set(storage.key, offset + LENGTH_BYTES);
    offset += LENGTH_BYTES + storage.byteSize;
    if (offset > source.byteSize)
      throw new TorchCheckpointError('READ_SHORT', place, `The file ends in the middle of ${place}.`);
  }
  for (const key of declared.keys()) {
    if (!places.has(key))
      throw new TorchCheckpointError('STORAGE_MISSING', 'storage keys', `Storage ${quoted(key)} is not in the file.`);
  }
  if (offset !== source.byteSize)
    throw new TorchCheckpointError(
      'TRAILING_BYTES',
      'end of the file',
      `${source.byteSize - offset} bytes follow the last storage.`,
    );
  return places;
}
