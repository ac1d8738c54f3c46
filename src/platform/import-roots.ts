/** Images are read only from folders that the server's owner has allowed. */
import { realpath, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { DomainError, UnreachableCaseError } from '../errors.ts';
import { openFolder, OpenError, type OpenFault, type OpenFolder } from './open-folder.ts';

/**
 * Opens a folder of images inside one of the roots. What is opened is what was checked, even if the path is replaced
 * later.
 * @param inputPath as the client gave it; must be absolute. Links in it are followed as long as they stay in the roots.
 * @param roots absolute folders; one that does not exist allows nothing.
 * @param field the input field that errors name, e.g. `input.path`.
 * @throws DomainError IMPORT_PATH_NOT_ALLOWED (relative, outside the roots, or led out of them by a link; told before
 * whether it exists), IMPORT_PATH_NOT_FOUND, IMPORT_PATH_NOT_FOLDER.
 */
export async function openImportFolder(
  inputPath: string,
  roots: readonly string[],
  field: string,
): Promise<OpenFolder> {
  return openWithin(await placeWithin(inputPath, roots, field), field, (root, relativePath) =>
    root.openFolder(relativePath),
  );
}

/**
 * Opens a labels CSV or a checkpoint, under the same rule as `openImportFolder`. The open waits for nobody.
 * @returns what the caller closes. @throws DomainError IMPORT_PATH_NOT_ALLOWED, IMPORT_PATH_NOT_FOUND (also where a
 * folder or a device stands in its place).
 */
export async function openImportFile(inputPath: string, roots: readonly string[], field: string): Promise<FileHandle> {
  return openWithin(await placeWithin(inputPath, roots, field), field, (root, relativePath) =>
    root.openFile(relativePath),
  ).catch((error: unknown) => {
    if (!(error instanceof DomainError) || error.code !== 'IMPORT_PATH_NOT_FOLDER') throw error;
    throw new DomainError({
      code: 'IMPORT_PATH_NOT_FOUND',
      message: 'The path is not a file.',
      field,
      hint: 'Name a file.',
    });
  });
}

/** The real path of a folder that `openImportFolder` opens now. @throws as that does. */
export async function resolveImportPath(inputPath: string, roots: readonly string[], field: string): Promise<string> {
  await using _folder = await openImportFolder(inputPath, roots, field);
  return placeOf(await placeWithin(inputPath, roots, field));
}

/** The real path of a file that `openImportFile` opens now. @throws as that does. */
export async function resolveImportFile(inputPath: string, roots: readonly string[], field: string): Promise<string> {
  await using _file = await openImportFile(inputPath, roots, field);
  return placeOf(await placeWithin(inputPath, roots, field));
}

/** A real root, and what lies below it: the root itself for an empty path. */
interface Place {
  readonly root: string;
  readonly relativePath: string;
}

function placeOf({ root, relativePath }: Place): string {
  return path.join(root, relativePath);
}

async function openWithin<Opened>(
  { root, relativePath }: Place,
  field: string,
  open: (root: OpenFolder, relativePath: string) => Promise<Opened>,
): Promise<Opened> {
  try {
    await using folder = await openFolder(root);
    return await open(folder, relativePath);
  } catch (error) {
    if (!(error instanceof OpenError)) throw error;
    throw refusalOf(error.fault, field);
  }
}

function refusalOf(fault: OpenFault, field: string): DomainError {
  switch (fault) {
    case 'NOT_FOUND':
      return notFound(field);
    case 'NOT_A_REGULAR_FILE':
      return new DomainError({
        code: 'IMPORT_PATH_NOT_FOLDER',
        message: 'The path is not a folder.',
        field,
        hint: 'Name the folder that holds the images.',
      });
    case 'UNREADABLE':
      return new DomainError({
        code: 'IMPORT_PATH_NOT_FOUND',
        message: 'The server may not read the path.',
        field,
        hint: 'Give the user that the server runs as the right to read it.',
      });
    default:
      throw new UnreachableCaseError(fault);
  }
}

function notFound(field: string): DomainError {
  return new DomainError({
    code: 'IMPORT_PATH_NOT_FOUND',
    message: 'The path does not exist.',
    field,
    hint: 'Check the spelling; the path is read on the server.',
  });
}

async function placeWithin(inputPath: string, roots: readonly string[], field: string): Promise<Place> {
  const hint =
    'Put it below the folder imports of the data directory of the server, or below one that PARAFFIN_IMPORT_ROOTS names there, and give its absolute path.';
  const notAllowed = (message: string): DomainError =>
    new DomainError({ code: 'IMPORT_PATH_NOT_ALLOWED', message, field, hint });
  if (!path.isAbsolute(inputPath)) throw notAllowed('The path is not absolute.');
  const found = await realPathOf(inputPath);
  const realRoots = (await Promise.all(roots.map(realPathOf))).filter((root) => root !== undefined);
  if (found !== undefined) {
    const root = realRoots.find((candidate) => isWithin(candidate, found));
    if (root !== undefined) return { root, relativePath: path.relative(root, found) };
    throw notAllowed('The path is outside the import roots.');
  }
  // What lies outside the roots must look the same whether it exists or not.
  if (![...roots, ...realRoots].some((root) => isWithin(path.resolve(root), path.resolve(inputPath))))
    throw notAllowed('The path is outside the import roots.');
  throw notFound(field);
}

async function realPathOf(inputPath: string): Promise<string | undefined> {
  // A path may hold what no file name can (a zero byte, too many letters): then nothing is there.
  return realpath(inputPath).catch(() => undefined);
}

/** True for the root itself and everything below it. Both are absolute and normal. */
function isWithin(root: string, candidate: string): boolean {
  const relative = path.relative(root, candidate);
  return relative === '' || (relative !== '..' && !relative.startsWith(`..${path.sep}`) && !path.isAbsolute(relative));
}
