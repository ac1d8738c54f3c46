/**
 * Cuts tiles of one slide for the server, which starts it with a `SlideToOpen` in JSON: the slide itself is read in a
 * sandboxed process below this one. Ends with its input.
 */
import { createInterface } from 'node:readline';
import { DomainError } from '../../../src/errors.ts';
import { openImportFolder } from '../../../src/platform/import-roots.ts';
import {
  slideToOpenSchema,
  tileRequestSchema,
  type SlideToOpen,
  type TileReply,
} from '../../../src/protocol/slide-tiles.ts';
import { openSlideReader, SlideReaderError } from './slide-process.ts';

/** A person waits for a tile. */
const TIMEOUT_MS = 20_000;

function reply(message: TileReply): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

/** What may be said to a person about why there is no picture; undefined for a fault of ours. */
function reasonOf(error: unknown): string | undefined {
  if (error instanceof SlideReaderError) return error.refusal.reason;
  return error instanceof DomainError ? error.message : undefined;
}

async function serve({ folderPath, importRoots, file, byteSize, libraryFile, hiddenFolder }: SlideToOpen) {
  await using folder = await openImportFolder(folderPath, importRoots, 'path');
  const facts = await folder.factsOf(file);
  if (facts === null) return reply({ kind: 'NOT_OPENED', reason: 'It is no longer where it was imported from.' });
  if (facts.byteSize !== byteSize)
    return reply({ kind: 'NOT_OPENED', reason: 'Its file has changed since it was imported.' });
  await using reader = await openSlideReader({
    ...{ folder, relativePath: file, libraryFile, hiddenFolder },
    ...{ micronsPerPixel: null, timeoutMs: TIMEOUT_MS },
  });
  reply({ kind: 'OPENED' });
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, ...place } = tileRequestSchema.parse(JSON.parse(line));
    try {
      reply({ kind: 'TILE', id, jpeg: (await reader.tile(place)).toString('base64') });
    } catch (error) {
      if (!(error instanceof SlideReaderError)) throw error;
      reply({ kind: 'NO_TILE', id, reason: error.refusal.reason });
      // A reader that has crashed answers nothing more: the server starts another program.
      if (error.refusal.code === 'READER_FAILED') return;
    }
  }
}

try {
  await serve(slideToOpenSchema.parse(JSON.parse(process.argv[2] ?? '')));
} catch (error) {
  const reason = reasonOf(error);
  if (reason === undefined) throw error;
  reply({ kind: 'NOT_OPENED', reason });
}
