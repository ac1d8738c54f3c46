/** Lists of relative paths that take little more memory than their bytes: an import may have ten million. */

/** An array of paths is one too. */
export interface PathList extends Iterable<string> {
  readonly length: number;
  /** Undefined behind the last one. A compact list makes the text at each call. */
  at(place: number): string | undefined;
  /** The folder of the path, without making a text; an array has none. */
  folderAt?(place: number): string;
}

export interface PathListBuilder {
  /** @param folder empty for the imported folder itself. */
  add(folder: string, name: string): void;
  /** Called once. */
  finish(): PathList;
}

/** Of UTF-8. A buffer that doubles would hold the names three times while it grows. */
const CHUNK_BYTES = 1024 * 1024;

/**
 * Names lie in chunks of UTF-8, none across two of them, and each folder is named once: a path takes the bytes of its
 * name and 8 more.
 */
export function createPathList(): PathListBuilder {
  const chunks: Buffer[] = [];
  /** Of each name, counted over all chunks. */
  let ends = new Uint32Array(1024);
  let folderNumbers = new Uint32Array(1024);
  const folders: string[] = [];
  let length = 0;
  let byteCount = 0;
  return {
    add: (folder, name) => {
      const byteLength = Buffer.byteLength(name);
      if (byteLength > CHUNK_BYTES) throw new RangeError('The name of a file takes more than 1 MiB.');
      if (byteCount + byteLength > chunks.length * CHUNK_BYTES) {
        byteCount = chunks.length * CHUNK_BYTES;
        if (byteCount + CHUNK_BYTES >= 2 ** 32) throw new RangeError('The names of the files take more than 4 GiB.');
        chunks.push(Buffer.allocUnsafeSlow(CHUNK_BYTES));
      }
      if (length === ends.length) {
        ends = grown(ends);
        folderNumbers = grown(folderNumbers);
      }
      if (folders.at(-1) !== folder) folders.push(folder);
      byteCount += chunks.at(-1)?.write(name, byteCount % CHUNK_BYTES, 'utf8') ?? 0;
      ends[length] = byteCount;
      folderNumbers[length] = folders.length - 1;
      length += 1;
    },
    finish: () => {
      const at = (place: number): string | undefined => {
        if (place < 0 || place >= length) return undefined;
        const end = ends[place] ?? 0;
        // A name that did not fit behind the one before lies at the start of the next chunk.
        const chunk = Math.max(0, Math.ceil(end / CHUNK_BYTES) - 1);
        const first = chunk * CHUNK_BYTES;
        const start = Math.max(first, place === 0 ? 0 : (ends[place - 1] ?? 0));
        const name = chunks[chunk]?.toString('utf8', start - first, end - first) ?? '';
        const folder = folders[folderNumbers[place] ?? 0] ?? '';
        return folder === '' ? name : `${folder}/${name}`;
      };
      const folderAt = (place: number): string => folders[folderNumbers[place] ?? 0] ?? '';
      return { length, at, folderAt, [Symbol.iterator]: () => pathsOf(length, at) };
    },
  };
}

/** Those at these places, without a copy. */
export function pickPaths(paths: PathList, places: Uint32Array): PathList {
  const at = (place: number): string | undefined => paths.at(places[place] ?? -1);
  const folderAt = (place: number): string => folderOf(paths, places[place] ?? -1);
  return { length: places.length, at, folderAt, [Symbol.iterator]: () => pathsOf(places.length, at) };
}

/** The places where `holds`. */
export function placesWhere(length: number, holds: (place: number) => boolean): Uint32Array {
  const places = new Uint32Array(length);
  let count = 0;
  for (let place = 0; place < length; place += 1) if (holds(place)) places[count++] = place;
  return places.slice(0, count);
}

/** The places of the files of each folder, in the order of the first of them. */
export function placesByFolder(paths: PathList): ReadonlyMap<string, readonly number[]> {
  const folders = new Map<string, number[]>();
  for (let place = 0; place < paths.length; place += 1) {
    const folder = folderOf(paths, place);
    const places = folders.get(folder);
    if (places === undefined) folders.set(folder, [place]);
    else places.push(place);
  }
  return folders;
}

/** The folder of a file; empty for the imported folder itself. */
export function parentOf(relativePath: string): string {
  return relativePath.slice(0, Math.max(0, relativePath.lastIndexOf('/')));
}

function folderOf(paths: PathList, place: number): string {
  return paths.folderAt?.(place) ?? parentOf(paths.at(place) ?? '');
}

function* pathsOf(length: number, at: (place: number) => string | undefined): Generator<string> {
  for (let place = 0; place < length; place += 1) yield at(place) ?? '';
}

function grown(array: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(2 * array.length);
  larger.set(array);
  return larger;
}
