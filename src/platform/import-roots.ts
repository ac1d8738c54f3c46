/** Images are read only from folders that the server's owner has allowed. */
import { realpath, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { DomainError, UnreachableCaseError } from '../errors.ts';
import { openFolder, OpenError, type OpenFault, type OpenFolder } from './open-folder.ts';

/**
 * Opens a folder of images inside one of the roots. The opened folder is the one that was checked, even if the path is
 * replaced later.
 * @param inputPath the path from the client; must be absolute. Symbolic links are followed as long as they stay in the
 * roots.
 * @param roots absolute folders; a root that does not exist allows nothing.
 * @param field the input field that errors name, e.g. `input.path`.
 * @throws DomainError IMPORT_PATH_NOT_ALLOWED (relative, outside the roots, or leaving them through a link; checked
 * first, so that the error does not reveal whether the path exists), IMPORT_PATH_NOT_FOUND, IMPORT_PATH_NOT_FOLDER.
 */
export async function openImportFolder(
  inputPath: string,
  roots: readonly string[],
  field: string,
): Promise<OpenFolder> {
  return openWithin(await locateWithin(inputPath, roots, field), field, (root, relativePath) =>
    root.openFolder(relativePath),
  );
}

/**
 * Opens a labels CSV or a checkpoint, under the same rules as `openImportFolder`. The open never blocks, not even on a
 * pipe.
 * @returns the open file, which the caller closes. @throws DomainError IMPORT_PATH_NOT_ALLOWED, IMPORT_PATH_NOT_FOUND
 * (also if the path is a folder or a device).
 */
export async function openImportFile(inputPath: string, roots: readonly string[], field: string): Promise<FileHandle> {
  return openWithin(await locateWithin(inputPath, roots, field), field, (root, relativePath) =>
    root.openFile(relativePath),
  ).catch((error: unknown) => {
    if (!(error instanceof DomainError) || error.code !== 'IMPORT_PATH_NOT_FOLDER') throw error;
    throw new DomainError({
      code: 'IMPORT_PATH_NOT_FOUND',
      message: 'The path is not a file.',
      field,
      hint: 'Give the path of a file.',
    });
  });
}

/** The real path of the folder that `openImportFolder` would open. Throws the same errors. */
export async function resolveImportPath(inputPath: string, roots: readonly string[], field: string): Promise<string> {
  await using _folder = await openImportFolder(inputPath, roots, field);
  return pathOf(await locateWithin(inputPath, roots, field));
}

/** The real path of the file that `openImportFile` would open. Throws the same errors. */
export async function resolveImportFile(inputPath: string, roots: readonly string[], field: string): Promise<string> {
  await using _file = await openImportFile(inputPath, roots, field);
  return pathOf(await locateWithin(inputPath, roots, field));
}

/** A root's real path, and a path relative to it; an empty path is the root itself. */
interface Location {
  readonly root: string;
  readonly relativePath: string;
}

function pathOf({ root, relativePath }: Location): string {
  return path.join(root, relativePath);
}

async function openWithin<Opened>(
  { root, relativePath }: Location,
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
        hint: 'Give the folder that contains the images.',
      });
    case 'UNREADABLE':
      return new DomainError({
        code: 'IMPORT_PATH_NOT_FOUND',
        message: 'The server has no permission to read the path.',
        field,
        hint: 'Allow the user of the server process to read it.',
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
    hint: 'Check the spelling. The path must exist on the machine of the server.',
  });
}

async function locateWithin(inputPath: string, roots: readonly string[], field: string): Promise<Location> {
  const hint =
    'Put the files into the folder "imports" of the data directory, or into a folder of PARAFFIN_IMPORT_ROOTS, and give the absolute path.';
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
  // The answer for a path outside the roots must not depend on whether it exists.
  if (![...roots, ...realRoots].some((root) => isWithin(path.resolve(root), path.resolve(inputPath))))
    throw notAllowed('The path is outside the import roots.');
  throw notFound(field);
}

async function realPathOf(inputPath: string): Promise<string | undefined> {
  // No file exists at a path that no file name can have (a NUL byte, too long).
  return realpath(inputPath).catch(() => undefined);
}

/** True for the root itself and everything below it. Both are absolute and normal. */
function isWithin(root: string, candidate: string): boolean {
  const relative = path.relative(root, candidate);
  return relative === '' || (relative !== '..' && !relative.startsWith(`..${path.sep}`) && !path.isAbsolute(relative));
}
