/**
 * Checkpoints of PyTorch 1.6 and later: a zip of one folder with `data.pkl`, `version`, often `byteorder`, and a file
 * in `data/` for each storage.
 */
import { crc32 } from 'node:zlib';
import type { RandomAccess } from '../random-access.ts';
import { quoted, TorchCheckpointError } from './fault.ts';
import type { TorchCheckpointLimits } from './limits.ts';
import type { OpenedCheckpoint, StorageReader } from './opened.ts';
import { readPickle } from './pickle-machine.ts';
import { readExactly } from './read.ts';
import { TorchHost } from './torch-host.ts';
import { readZipDirectory, torchScript } from './zip-directory.ts';
import type { ZipEntry } from './zip-directory.ts';

/** The versions that PyTorch 2.13 reads (caffe2/serialize/versions.h). */
const MAX_VERSION = 10;
const MAX_SMALL_ENTRY_BYTES = 64;
/** Bytes that are read of a pickle that is too large: enough to recognise its content. */
const PICKLE_SNIFF_BYTES = 4096;
const CHECK_CHUNK_BYTES = 1024 * 1024;

/** @throws TorchCheckpointError with the first fault. */
export async function openArchive(source: RandomAccess, limits: TorchCheckpointLimits): Promise<OpenedCheckpoint> {
  const entries = await readZipDirectory(source, limits);
  const root = rootOf(entries);
  const entryAt = (path: string): ZipEntry | undefined => entries.get(`${root}/${path}`);
  if (entryAt('constants.pkl') !== undefined) throw torchScript(root);
  await checkVersion(source, entryAt('version') ?? entryAt('.data/version'));
  await checkByteOrder(source, entryAt('byteorder'));

  const pickleEntry = entryAt('data.pkl');
  if (pickleEntry === undefined)
    throw new TorchCheckpointError('ENTRY_MISSING', root, `${quoted(`${root}/data.pkl`)} is missing.`);
  if (pickleEntry.byteSize > limits.maxPickleBytes) {
    const beginning = await readExactly(source, pickleEntry.offset, PICKLE_SNIFF_BYTES, pickleEntry.name);
    throw new TorchCheckpointError(
      'PICKLE_TOO_LARGE',
      pickleEntry.name,
      `The pickle has ${pickleEntry.byteSize} bytes; at most ${limits.maxPickleBytes} are read.${
        Buffer.from(beginning).includes('numpy') ? ' It holds numpy arrays where a state_dict() has torch tensors.' : ''
      }`,
    );
  }
  const pickle = await readEntry(source, pickleEntry);
  const host = new TorchHost(pickleEntry.name, limits);
  const { value, byteSize } = readPickle(pickle, pickleEntry.name, host, limits);
  if (byteSize !== pickle.length)
    throw new TorchCheckpointError(
      'TRAILING_BYTES',
      pickleEntry.name,
      `${pickle.length - byteSize} bytes follow the end of the pickle.`,
    );

  const storages = new Map<string, ZipEntry>();
  for (const declared of host.storages.values()) {
    const entry = entryAt(`data/${declared.key}`);
    if (entry === undefined)
      throw new TorchCheckpointError(
        'STORAGE_MISSING',
        `${root}/data`,
        `Storage ${quoted(declared.key)} is not in the file.`,
      );
    if (entry.byteSize !== declared.byteSize) {
      throw new TorchCheckpointError(
        'STORAGE_SIZE_MISMATCH',
        entry.name,
        `Storage ${quoted(declared.key)} has ${entry.byteSize} bytes; its pickle says ${declared.byteSize}.`,
      );
    }
    storages.set(declared.key, entry);
  }
  return { format: 'ZIP', value, inertGlobals: host.inertGlobals, storages: archiveStorages(source, storages) };
}

function rootOf(entries: ReadonlyMap<string, ZipEntry>): string {
  const suffix = '/data.pkl';
  const pickles = [...entries.keys()].filter(
    (name) => name.endsWith(suffix) && name.indexOf('/') === name.length - suffix.length,
  );
  const [pickle] = pickles;
  if (pickle === undefined) {
    const [inside] = entries.keys();
    throw new TorchCheckpointError(
      'ENTRY_MISSING',
      'zip',
      inside === undefined
        ? 'The zip is empty; it is not a checkpoint of PyTorch.'
        : `The file is a zip that holds ${quoted(inside)}, not a checkpoint of PyTorch (those hold data.pkl in a folder): unpack it and import the file of weights.`,
    );
  }
  const root = pickle.slice(0, -suffix.length);
  const stray = [...entries.keys()].find((name) => !name.startsWith(`${root}/`));
  if (stray !== undefined)
    throw new TorchCheckpointError(
      'ENTRY_OUTSIDE_ARCHIVE',
      stray,
      `${quoted(stray)} is outside of the checkpoint's folder ${quoted(root)}.`,
    );
  return root;
}

async function checkVersion(source: RandomAccess, entry: ZipEntry | undefined): Promise<void> {
  if (entry === undefined)
    throw new TorchCheckpointError(
      'ENTRY_MISSING',
      'zip',
      'The zip holds no version: it is not a checkpoint of PyTorch.',
    );
  const text = (await readSmallText(source, entry)).trim();
  const version = /^\d{1,3}$/.test(text) ? Number(text) : NaN;
  if (!(version >= 1 && version <= MAX_VERSION))
    throw new TorchCheckpointError(
      'VERSION_UNSUPPORTED',
      entry.name,
      `Version ${quoted(text)} of the format is not supported; 1 to ${MAX_VERSION} are.`,
    );
}

/** Absent from files older than PyTorch 2.1, which are little-endian on all machines in use. */
async function checkByteOrder(source: RandomAccess, entry: ZipEntry | undefined): Promise<void> {
  if (entry === undefined) return;
  const text = await readSmallText(source, entry);
  if (text === 'big')
    throw new TorchCheckpointError(
      'BIG_ENDIAN',
      entry.name,
      'The checkpoint was written on a big-endian machine; only little-endian files are supported.',
    );
  if (text !== 'little')
    throw new TorchCheckpointError('BYTE_ORDER_INVALID', entry.name, `${quoted(text)} is not a byte order.`);
}

async function readSmallText(source: RandomAccess, entry: ZipEntry): Promise<string> {
  if (entry.byteSize > MAX_SMALL_ENTRY_BYTES)
    throw new TorchCheckpointError(
      'ENTRY_TOO_LARGE',
      entry.name,
      `${quoted(entry.name)} has ${entry.byteSize} bytes; at most ${MAX_SMALL_ENTRY_BYTES} are read.`,
    );
  return Buffer.from(await readEntry(source, entry)).toString('latin1');
}

async function readEntry(
  source: RandomAccess,
  entry: ZipEntry,
  into?: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await readExactly(source, entry.offset, entry.byteSize, entry.name, into);
  checkDigest(entry, crc32(bytes));
  return bytes;
}

function checkDigest(entry: ZipEntry, computed: number): void {
  // PyTorch writes 0 when checksums are switched off.
  if (entry.crc32 === 0 || entry.crc32 === computed) return;
  throw new TorchCheckpointError(
    'ENTRY_CORRUPT',
    entry.name,
    `${quoted(entry.name)} does not match its checksum: the file is damaged.`,
  );
}

/**
 * A storage is checked against its checksum before any part of it is returned, so reading a part costs one pass over
 * the whole storage.
 */
function archiveStorages(source: RandomAccess, entries: ReadonlyMap<string, ZipEntry>): StorageReader {
  const checks = new Map<string, Promise<void>>();
  const check = async (entry: ZipEntry): Promise<void> => {
    let computed = 0;
    for (let at = 0; at < entry.byteSize; at += CHECK_CHUNK_BYTES) {
      computed = crc32(
        await readExactly(source, entry.offset + at, Math.min(CHECK_CHUNK_BYTES, entry.byteSize - at), entry.name),
        computed,
      );
    }
    checkDigest(entry, computed);
  };
  return {
    read: async (key, byteOffset, length, into) => {
      const entry = entries.get(key);
      if (entry === undefined)
        throw new TorchCheckpointError('STORAGE_MISSING', 'zip', `Storage ${quoted(key)} is not in the file.`);
      if (byteOffset === 0 && length === entry.byteSize) return readEntry(source, entry, into);
      let checked = checks.get(key);
      if (checked === undefined) {
        checked = check(entry);
        checks.set(key, checked);
      }
      await checked;
      return readExactly(source, entry.offset + byteOffset, length, entry.name, into);
    },
  };
}
